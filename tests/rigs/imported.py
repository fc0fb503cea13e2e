"""What an engine imports, whichever store and loop it is configured with; for `tests.rigs.forked`."""

import gc

from engine.base.imports import quick_imports

with quick_imports():
    import engine.cli.local
    import engine.cli.main
    import engine.process.shared_store
    import engine.process.single
    import engine.store.redis.canaries  # noqa: F401 - for those who are forked

gc.collect()
gc.freeze()  # or each engine that is forked would copy all of it when it first searches for garbage
