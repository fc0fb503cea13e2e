"""The options of commands that record traffic, and send it again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli import recording, replaying, values

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from engine.cli.screen import Output

    Command = Callable[[argparse.Namespace, Output], int]
    Add = Callable[[str, Command, str], Callable[..., argparse.Action]]


def add_record(add: Add) -> None:
    """Add the command that records."""
    option = add(
        "record",
        recording.record,
        "Write the requests of a running engine and its answers to a file (GoReplay's format), without "
        "tokens and other secrets, until Ctrl-C. Exits with 1 when some are missing in it.",
    )
    option(
        "--output-file", type=Path, required=True, metavar="F", help="such as traffic.gor or traffic.gor.gz"
    )
    option("--duration", type=values.seconds, metavar="S", help="end after so many seconds")
    option("--max-bytes", type=values.size, metavar="N", help="end at so many bytes of files, such as 2G")
    option(
        "--chunk-bytes",
        type=values.size,
        metavar="N",
        help="begin another file at so many bytes, such as 100M: F_0.gor, F_1.gor ...",
    )
    option(
        "--sample",
        type=values.share,
        default=1.0,
        metavar="P",
        help="of all requests, such as 10%% (default 100%%)",
    )


def add_replay(add: Add) -> None:
    """Add the command that replays."""
    option = add(
        "replay",
        replaying.replay,
        "Send a recording of traffic (GoReplay's format) to an engine, with ids of its own and without "
        "callbacks, and compare the answers with those that were recorded, or with those of another engine. "
        "Exits with 1 when they differ.",
    )
    option(
        "recording",
        type=Path,
        metavar="F",
        help="file, or name of a recording in chunks F_0.gor, F_1.gor ...",
    )
    option(
        "--speed",
        type=values.speed,
        default=1.0,
        metavar="P",
        help="such as 200%% of the recorded rate, or max (default 100%%)",
    )
    option(
        "--beside",
        metavar="URL",
        help="send it to this engine, too, turn about, and compare the answers of the two",
    )
    option(
        "--slice",
        type=values.count,
        metavar="N",
        help=f"with --beside: requests at one before it is the other's turn (default {replaying.SLICE})",
    )
    option("--loop", action="store_true", help="begin anew at its end, until Ctrl-C or --limit")
    option("--limit", type=values.count, metavar="N", help="send so many requests at most")
    option(
        "--rewrite-host",
        action="append",
        default=[],
        metavar="A=B",
        help="targets of host A are sent with host B; may be repeated",
    )
    option("--workers", type=values.count, metavar="N", help=f"connections (default {replaying.WORKERS})")
    option(
        "--keep-callbacks", action="store_true", help="leave the callbacks of tasks in: customers are told"
    )
