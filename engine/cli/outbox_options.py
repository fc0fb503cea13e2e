"""Options of the outbox."""

from __future__ import annotations

from engine.cli import cells, outbox, values
from engine.cli.options import flag, give, opt

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any, Final

    from engine.cli.options import Opt


def folder(text: str) -> Opt:
    """Return the option that names the folder."""
    return opt(
        "--outbox", metavar="DIR", help=f"{text} (default: $PURGELINE_OUTBOX; without it there is none)"
    )


_OPTIONS: Final = (
    opt("act", choices=["list", "send", "drop"], metavar="list|send|drop"),
    opt("ids", nargs="*", type=values.task_id, metavar="ID", help="drop: only these"),
    folder("the folder"),
    flag("--refused", "list, drop: only what was refused for good; send: try that again, too"),
    flag("--all", "drop: everything"),
    opt(
        "--alert-after",
        type=values.seconds,
        metavar="S",
        help="send: say so when a task waits longer than S seconds, and tell --alert-url",
    ),
    opt(
        "--alert-url",
        metavar="URL",
        help="where to, in the form of the engine's alerts; signed with $PURGELINE_ALERT_SECRET",
    ),
    opt(
        "--alert-config",
        type=values.file,
        metavar="F",
        help="send: tell those whom [alert] of this TOML file names instead, in its forms: Alertmanager, "
        "Slack, mail; an engine.toml, or a file with that table alone",
    ),
)


def add_outbox(add: Callable[[str, Any, str], Callable[..., argparse.Action]]) -> None:
    """Add the command ``outbox``.

    Args:
        add: takes a name, a function and a text, and returns what adds an option to the command.
    """
    option = add(
        "outbox",
        outbox.outbox,
        "List, send or drop the tasks that no engine took. `send` ends with 0 when none is left, 1 when some "
        "are set aside because an engine refused them for good, 3 when no engine takes them: they wait on. "
        f"Columns of `list` in a pipe: {' '.join(cells.OUTBOX_COLUMNS)}.",
    )
    give(option, _OPTIONS)
