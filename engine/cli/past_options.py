"""Options of commands about what has been: ``tasks``, ``history``, ``retry``, ``rewind``."""

from __future__ import annotations

from engine.cli import again, cells, history, values
from engine.cli.options import WAIT_FOR_ALL, flag, give, opt
from engine.tasks.words import Action, State

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any, Final

    from engine.cli.options import Opt


def _text(name: str, metavar: str, text: str) -> Opt:
    """Return an option that takes a text; empty when it is left out."""
    return opt(name, default="", metavar=metavar, help=text)


def _moment(name: str, text: str) -> Opt:
    shown = f"{text}: 6h (ago), 2026-11-29T14:00, UNIX seconds"
    return opt(name, type=history.moment, metavar="T", help=shown)


_TIMES: Final = (_moment("--since", "only tasks from then on"), _moment("--until", "only tasks up to then"))

_FILTERS: Final = (
    _text("--host", "HOST", "only tasks with targets of this host"),
    _text("--node", "NAME", "only tasks that went to this node, and its outcomes"),
    _text("--by", "WHO", "only tasks of this token, or from this address"),
    opt("--action", choices=[action.value for action in Action], default="", help="only these"),
    opt("--state", choices=[state.value for state in State], default="", help="only these"),
    *_TIMES,
    opt("--limit", type=values.count, default=50, metavar="N", help="at most so many (default 50)"),
)  #: what the history is asked for

TASKS: Final = (_text("--target", "TARGET", "only tasks that cover a URL, HOST/KEY or a host"), *_FILTERS)

HISTORY: Final = (
    opt("target", nargs="?", default="", metavar="TARGET", help="a URL, HOST/KEY or a host; none: all tasks"),
    *_FILTERS,
)

_RETRY: Final = (
    opt("ids", type=values.task_id, metavar="ID", nargs="*"),
    _text("--target", "TARGET", "tasks that cover a URL, HOST/KEY or a host"),
    _text("--host", "HOST", "tasks with targets of this host"),
    _text("--node", "NAME", "tasks that went to this node"),
    _text("--by", "WHO", "tasks of this token, or from this address"),
    _text("--reason", "TEXT", "tasks of whose errors one has this in its reason"),
    opt("--state", choices=["failed", "partial", "cancelled"], default="failed", help="only these"),
    *_TIMES,
    opt("--limit", type=values.count, default=1000, metavar="N", help="look at so many tasks (default 1000)"),
    flag("--dry-run", "show what would be sent again; send nothing"),
    WAIT_FOR_ALL,
)

_REWIND: Final = (
    opt("--node", required=True, metavar="NAME", help="the node"),
    *_TIMES,
    opt("--host", metavar="HOST", help="only targets of this host"),
    opt(
        "--rate", dest="rate_per_s", type=values.seconds, metavar="N", help="targets a second (default 1000)"
    ),
    WAIT_FOR_ALL,
    flag("--stop", "stop the node's rewind: what it has not sent is cancelled"),
)


def add_again(add: Callable[[str, Any, str], Callable[..., argparse.Action]]) -> None:
    """Add the commands ``retry`` and ``rewind``.

    Args:
        add: takes a name, a function and a text, and returns what adds an option to the command.
    """
    retry = add(
        "retry",
        again.retry,
        "Send what failed of tasks again: of those that are named, or of all that are asked for. Columns in "
        f"a pipe: {' '.join(cells.RETRIED_COLUMNS)}, with --dry-run {' '.join(cells.WOULD_RETRY_COLUMNS)}.",
    )
    give(retry, _RETRY)
    rewind = add(
        "rewind",
        again.rewind,
        "Send what was purged between two times to one node once more, oldest first: it was restored, or was "
        "left out.",
    )
    give(rewind, _REWIND)
