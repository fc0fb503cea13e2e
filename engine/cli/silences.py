"""Commands that silence alerts, list the silences, and end one."""

from __future__ import annotations

import argparse
import re

from engine.cli import values
from engine.cli.cells import SILENCE_COLUMNS
from engine.cli.connect import connect
from engine.cli.exits import DONE, UsageError

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from engine.cli.screen import Output

    Command = Callable[[argparse.Namespace, Output], int]
    Add = Callable[[str, Command, str], Callable[..., argparse.Action]]

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def add_silences(add: Add) -> None:
    """Add the commands."""
    option = add(
        "silence", silence, "Have alerts that match not sent for a time. They are logged and listed."
    )
    option(
        "matchers",
        metavar="MATCHER",
        nargs="+",
        help="all have to match: kind=node, node=edge-1, 'key=~canary:.*', 'layer!=edge'; a word alone is a "
        "key, such as node:edge-1",
    )
    option("--reason", required=True, metavar="TEXT", help="why, for those who look at it")
    option("--for", dest="for_s", type=duration, metavar="T", help="how long: 2h, 30m, 90s, 5d; at most 30d")
    option("--until", type=values.moment, metavar="T", help="its end: 2026-11-30T04:00, UNIX seconds")
    add("silences", silences, f"List silences of alerts. Columns in a pipe: {' '.join(SILENCE_COLUMNS)}.")
    add("unsilence", unsilence, "End a silence now: what is still on of its alerts is sent.")(
        "id", metavar="ID"
    )


def duration(text: str) -> float:
    """Return seconds for ``2h``, ``30m``, ``90s`` or ``5d``."""
    found = re.fullmatch(r"(\d{1,7}(?:\.\d{1,3})?)([smhd])", text)
    if found is None or not float(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no time: it takes 2h, 30m, 90s or 5d")
    return float(found[1]) * _UNITS[found[2]]


def silence(args: argparse.Namespace, out: Output) -> int:
    """Silence alerts."""
    times = {"for_s": args.for_s, "until": args.until}
    given = {name: value for name, value in times.items() if value is not None}
    if len(given) != 1:
        raise UsageError("silence: takes --for or --until, one of the two")
    with connect(args, out) as client:
        made = client.silence({"matchers": args.matchers, "reason": args.reason, **given})
    out.mapping(made)
    return DONE


def silences(args: argparse.Namespace, out: Output) -> int:
    """List them, and the alerts that they keep from being sent."""
    with connect(args, out) as client:
        out.listing(client.silences(), "silences", SILENCE_COLUMNS)
    return DONE


def unsilence(args: argparse.Namespace, out: Output) -> int:
    """End one."""
    with connect(args, out) as client:
        out.mapping(client.unsilence(args.id))
    return DONE
