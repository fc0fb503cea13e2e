"""``purgeline top``: the caches and tasks of an engine, live in a terminal; `top_live` shows them."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from engine.cli.connect import connect
from engine.cli.exits import DONE, UsageError

if TYPE_CHECKING:
    import argparse

    from engine.cli.screen import Output

TIMEOUT_S: Final = 2.0  #: of an answer, for which keys wait, too


def top(args: argparse.Namespace, out: Output) -> int:
    """Show them until q is pressed."""
    if out.as_json or not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout)):
        raise UsageError(
            "top needs a terminal; in a pipe: purgeline nodes, tasks, stats, with --json too, or GET /metrics"
        )
    if find_spec("rich") is None:
        raise UsageError("top needs rich: pip install 'purgeline[terminal]'")
    from engine.cli.top_live import show  # noqa: PLC0415 - what it imports no other command waits for

    args.timeout = args.timeout or TIMEOUT_S
    with connect(args, out, busy_attempts=1) as client:
        show(client)
    return DONE
