"""What an engine imports, whichever store and loop it is configured with; for `tests.rigs.forked`."""

# ruff: noqa: F401 - for those who are forked
import gc

from engine.base.imports import quick_imports

with quick_imports():
    import encodings.idna
    import tomllib

    import cryptography.hazmat.primitives.asymmetric.ed25519

    import engine.cli.arguments
    import engine.cli.commands
    import engine.cli.local
    import engine.cli.main
    import engine.cli.options
    import engine.cli.parser
    import engine.cli.screen
    import engine.config.load
    import engine.config.parents
    import engine.process.shared_store
    import engine.process.single
    import engine.store.redis.canaries

gc.collect()
gc.freeze()  # or each engine that is forked would copy all of it when it first searches for garbage
