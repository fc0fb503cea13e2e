"""The options of commands that record traffic, and send it again."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from engine.cli import replaying, values
from engine.cli.options import flag, opt, several

RECORD: Final = (
    opt("--output-file", type=Path, required=True, metavar="F", help="such as traffic.gor or traffic.gor.gz"),
    opt("--duration", type=values.seconds, metavar="S", help="end after so many seconds"),
    opt("--max-bytes", type=values.size, metavar="N", help="end at so many bytes of files, such as 2G"),
    opt(
        "--chunk-bytes",
        type=values.size,
        metavar="N",
        help="begin another file at so many bytes, such as 100M: F_0.gor, F_1.gor ...",
    ),
    opt(
        "--sample",
        type=values.share,
        default=1.0,
        metavar="P",
        help="of all requests, such as 10%% (default 100%%)",
    ),
)

REPLAY: Final = (
    opt(
        "recording",
        type=Path,
        metavar="F",
        help="file, or name of a recording in chunks F_0.gor, F_1.gor ...",
    ),
    opt(
        "--speed",
        type=values.speed,
        default=1.0,
        metavar="P",
        help="such as 200%% of the recorded rate, or max (default 100%%)",
    ),
    opt(
        "--beside",
        metavar="URL",
        help="send it to this engine, too, turn about, and compare the answers of the two",
    ),
    opt(
        "--slice",
        type=values.count,
        metavar="N",
        help=f"with --beside: requests at one before it is the other's turn (default {replaying.SLICE})",
    ),
    flag("--loop", "begin anew at its end, until Ctrl-C or --limit"),
    opt("--limit", type=values.count, metavar="N", help="send so many requests at most"),
    several("--rewrite-host", "A=B", "targets of host A are sent with host B; may be repeated"),
    opt("--workers", type=values.count, metavar="N", help=f"connections (default {replaying.WORKERS})"),
    flag("--keep-callbacks", "leave the callbacks of tasks in: customers are told"),
)
