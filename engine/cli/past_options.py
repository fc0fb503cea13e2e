"""Options of commands about what has been: ``tasks``, ``history``, ``retry``, ``rewind``."""

from __future__ import annotations

from engine.cli import again, cells, history, values
from engine.tasks.words import Action, State

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any


def add_history(option: Callable[..., argparse.Action]) -> None:
    """Add the options of ``history``."""
    option(
        "target", nargs="?", default="", metavar="TARGET", help="a URL, HOST/KEY or a host; none: all tasks"
    )
    add_filters(option)


def add_filters(option: Callable[..., argparse.Action]) -> None:
    """Add what the history is asked for."""
    option("--host", default="", metavar="HOST", help="only tasks with targets of this host")
    option("--node", default="", metavar="NAME", help="only tasks that went to this node, and its outcomes")
    option("--by", default="", metavar="WHO", help="only tasks of this token, or from this address")
    option("--action", choices=[action.value for action in Action], default="", help="only these")
    option("--state", choices=[state.value for state in State], default="", help="only these")
    _add_times(option)
    option("--limit", type=values.count, default=50, metavar="N", help="at most so many (default 50)")


def _add_times(option: Callable[..., argparse.Action]) -> None:
    for name, text in (("--since", "only tasks from then on"), ("--until", "only tasks up to then")):
        option(
            name,
            type=history.moment,
            metavar="T",
            help=f"{text}: 6h (ago), 2026-11-29T14:00, UNIX seconds",
        )


def add_again(add: Callable[[str, Any, str], Callable[..., argparse.Action]]) -> None:
    """Add the commands ``retry`` and ``rewind``.

    Args:
        add: takes a name, a function and a text, and returns what adds an option to the command.
    """
    option = add(
        "retry",
        again.retry,
        "Send what failed of tasks again: of those that are named, or of all that are asked for. Columns in "
        f"a pipe: {' '.join(cells.RETRIED_COLUMNS)}, with --dry-run {' '.join(cells.WOULD_RETRY_COLUMNS)}.",
    )
    option("ids", type=values.task_id, metavar="ID", nargs="*")
    option("--target", default="", metavar="TARGET", help="tasks that cover a URL, HOST/KEY or a host")
    option("--host", default="", metavar="HOST", help="tasks with targets of this host")
    option("--node", default="", metavar="NAME", help="tasks that went to this node")
    option("--by", default="", metavar="WHO", help="tasks of this token, or from this address")
    option("--reason", default="", metavar="TEXT", help="tasks of whose errors one has this in its reason")
    option("--state", choices=["failed", "partial", "cancelled"], default="failed", help="only these")
    _add_times(option)
    option(
        "--limit", type=values.count, default=1000, metavar="N", help="look at so many tasks (default 1000)"
    )
    option("--dry-run", action="store_true", help="show what would be sent again; send nothing")
    option("--wait", action="store_true", help="wait until all is settled; the exit code tells how")
    option = add(
        "rewind",
        again.rewind,
        "Send what was purged between two times to one node once more, oldest first: it was restored, or was "
        "left out.",
    )
    option("--node", required=True, metavar="NAME", help="the node")
    _add_times(option)
    option("--host", metavar="HOST", help="only targets of this host")
    option(
        "--rate", dest="rate_per_s", type=values.seconds, metavar="N", help="targets a second (default 1000)"
    )
    option("--wait", action="store_true", help="wait until all is settled; the exit code tells how")
    option("--stop", action="store_true", help="stop the node's rewind: what it has not sent is cancelled")
