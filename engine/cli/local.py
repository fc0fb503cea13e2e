"""Commands that talk to no engine: they run one, check its configuration, or move its store.

What only some of them need is imported when they run: the engine for ``serve``, msgspec for a configuration.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from engine._version import __version__
from engine.cli.cells import CONFIG_COLUMNS
from engine.cli.exits import DONE, FAILED, UsageError

if TYPE_CHECKING:
    import argparse

    from engine.cli.screen import Output
    from engine.config.tables import Config

FIRST = Path("engine.toml")  #: as `init` names it


def serve(args: argparse.Namespace, out: Output) -> int:
    """Run the engine until it is told to stop."""
    from engine.config.load import load  # noqa: PLC0415 - only this command needs the engine

    if args.config is None and args.workers is not None:
        raise UsageError("--workers: needs --config F, which workers read again; purgeline init writes one")
    settings = load(args.config) if args.config else _default(out)
    if args.workers is None:
        from engine.base.imports import quick_imports  # noqa: PLC0415 - as above

        with quick_imports():
            from engine.process.single import run  # noqa: PLC0415 - after a mistake in the file not even then

        return run(settings)
    from engine import supervisor  # noqa: PLC0415 - as above

    return supervisor.main(
        ["--config", str(args.config.resolve()), "--workers", str(args.workers)],
        worker_command=[sys.executable, "-m", "engine", "worker"],
        version=__version__,
    )


def _default(out: Output) -> Config:
    """Return the configuration of an engine without a file, and say where its things are."""
    from engine.config.load import load_defaults  # noqa: PLC0415 - as above

    home = os.environ.get("XDG_STATE_HOME") or ""
    state = Path(home) if Path(home).is_absolute() else Path.home() / ".local" / "state"
    settings = load_defaults(state / "purgeline")
    out.notice(f"without --config: listens on {settings.engine.listen}, data in {settings.engine.data_dir}")
    if FIRST.exists():
        out.notice(f"{FIRST} here is not read: purgeline serve --config {FIRST}")
    else:
        out.notice(f"it has no cache: purgeline init writes {FIRST}, then purgeline serve --config {FIRST}")
    return settings


def work(args: argparse.Namespace, _out: Output) -> int:
    """Run one worker; its supervisor calls it."""
    from engine.config.load import load  # noqa: PLC0415 - as above

    settings = load(args.config)
    from engine.base.imports import quick_imports  # noqa: PLC0415 - as above

    with quick_imports():
        from engine.process.worker import run  # noqa: PLC0415 - as above

    return run(settings)


def check_config(args: argparse.Namespace, out: Output) -> int:
    """Check a configuration and show what it would run."""
    import asyncio  # noqa: PLC0415 - as above

    from engine.config.checks import store_warnings, warnings_of  # noqa: PLC0415 - only this command needs msgspec
    from engine.config.load import load  # noqa: PLC0415 - as above
    from engine.config.redis_url import without_password  # noqa: PLC0415 - as above
    from engine.doors.cdni.tls import check_certificates  # noqa: PLC0415 - as above
    from engine.doors.htcp.key_file import check_key_files  # noqa: PLC0415 - as above
    from engine.nodes.lookups import look_up_all  # noqa: PLC0415 - as above

    settings = load(args.config)
    check_key_files(settings.door)
    check_certificates(settings.door)
    warnings = [*warnings_of(settings), *store_warnings(settings.store)]
    if len(settings.listening_doors()) < len(settings.door):
        from engine.doors.redis.check import redis_warnings  # noqa: PLC0415 - others need no Redis

        warnings += redis_warnings(settings.door)
    for text in (*warnings, *asyncio.run(look_up_all(settings.node))):
        out.notice(f"warning: {text}")
    layers = [layer.name for layer in settings.layer] or ["edge"]
    nodes = [
        {
            "name": node.name,
            "layer": node.layer,
            "driver": node.driver,
            "url": node.url,
            "parents": node.parents,
        }
        for node in sorted(settings.node, key=lambda node: layers.index(node.layer))
    ]
    store = without_password(settings.store.url)
    facts = {"listen": settings.engine.listen, "store": store, "layers": layers}
    out.sections({**facts, "nodes": nodes}, {"nodes": ("node", CONFIG_COLUMNS)})
    return DONE


def move_store(args: argparse.Namespace, out: Output) -> int:
    """Copy all tasks from one store to another."""
    from engine.cli.migration.migrate import migrate  # noqa: PLC0415 - only this command needs the stores
    from engine.cli.migration.opening import open_side  # noqa: PLC0415 - as above
    from engine.config.load import load  # noqa: PLC0415 - as above

    settings = load(args.config)
    folder = Path(settings.engine.data_dir)
    source = open_side(args.source, settings, folder, is_target=False)
    if args.workers and not args.target.startswith("sqlite:"):
        raise UsageError("--workers: only files are of a number of workers; --to takes sqlite:DIR then")
    target = open_side(args.target, settings, folder, is_target=True, workers=args.workers)
    had, has = migrate(source, target, folder, say=out.notice)
    out.mapping({"from": had.shown(), "to": has.shown()})
    if different := had.differences(has):
        text = "; ".join(different)
        return out.error(f"not the same on both sides: {text}; run it again to go on", exit_code=FAILED)
    return DONE
