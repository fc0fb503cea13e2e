"""``purgeline history``: who purged what, when, and what each node made of it."""

from __future__ import annotations

import re
import time
from argparse import ArgumentTypeError
from datetime import UTC, datetime

from engine.cli.cells import HISTORY_COLUMNS, rows_of
from engine.cli.connect import connect
from engine.cli.exits import DONE
from engine.cli.views import query_of

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any, Final

    from engine.cli.screen import Output
    from engine.client.bodies import Document

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_NODES_SHOWN: Final = 5


def history(args: argparse.Namespace, out: Output) -> int:
    """Show the tasks that cover a target, or all, newest first."""
    with connect(args, out) as client:
        document = client.history(query_of(args), limit=args.limit)
    if why := document.get("incomplete"):
        out.notice(f"warning: some of the history is missing: {why}")
    if out.as_json:
        out.json(document)
    else:
        out.listing(
            {"tasks": [_row(task, args.node) for task in document["tasks"]]}, "tasks", HISTORY_COLUMNS
        )
        out.failures([_asked_for(task, args.node) for task in document["tasks"]])
    if not document["tasks"] and not document.get("cursor"):
        out.notice(_nothing(None if why else document.get("complete_since")))
    return DONE


def _asked_for(task: Document, node: str) -> Document:
    """Return a task with those of its errors that are about the node, and the target, that is asked for.

    Where the ones that are kept name the target nowhere, others of the node stay.
    """
    of_node = [error for error in rows_of(task, "errors") if not node or error.get("node") == node]
    of_target = [error for error in of_node if error.get("target") == task.get("matched")]
    return {**task, "errors": of_target or of_node}


def _nothing(since: object) -> str:
    """Return what an empty answer means; *since*: the history is complete from then on, if it is."""
    if not isinstance(since, int | float) or not since:
        return "the history has no such task"
    began = f"{datetime.fromtimestamp(since, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return f"the history has no such task; it has all that were handed in since {began}"


def _row(task: Document, node: str) -> Document:
    """Return one line: of the nodes only *node*, if it is asked for."""
    by: Any = task.get("by")
    who = [by.get("token"), by.get("address")] if isinstance(by, dict) else []
    nodes = [row for row in rows_of(task, "nodes") if not node or row.get("name") == node]
    match = task.get("match")
    return {
        **task,
        "by": " ".join(str(part) for part in who if part) or None,
        "match": f"{match}?" if match and task.get("sure") is False else match,
        "outcome": _outcome(nodes),
    }


def _outcome(nodes: Sequence[Document]) -> str:
    """Return in words what nodes made of a task: those that did not do it by name."""
    done = sum(row.get("outcome") == "acked" for row in nodes)
    others = [f"{row.get('name')} {row.get('outcome')}" for row in nodes if row.get("outcome") != "acked"]
    shown = others[:_NODES_SHOWN]
    if len(others) > _NODES_SHOWN:
        shown.append(f"{len(others) - _NODES_SHOWN} more not")
    if done:
        shown.append(f"{done} acked" if len(nodes) > 1 else f"{nodes[0].get('name')} acked")
    return ", ".join(shown)


def moment(text: str) -> float:
    """Return UNIX time for a date and time, for UNIX time itself, or for how long ago: ``6h``, ``2d``.

    Raises:
        ArgumentTypeError: it is none of these.
    """
    if ago := re.fullmatch(r"(\d{1,6}(?:\.\d+)?)([smhd])", text):
        return time.time() - float(ago[1]) * _UNITS[ago[2]]
    if re.fullmatch(r"\d{1,12}(\.\d+)?", text):
        return float(text)
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise ArgumentTypeError(
            f"{text!r} is no time: it takes 6h (30m, 2d) ago, 2026-11-29T14:00, or UNIX seconds"
        ) from None
