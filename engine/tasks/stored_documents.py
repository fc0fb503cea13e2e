"""Stored documents: plain dicts, so that a field another version added survives a change here. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.tasks import by_node, lower
from engine.tasks.records import Callback
from engine.tasks.task import ERRORS_MAX
from engine.tasks.words import FINAL_STATES, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from engine.tasks.records import Late, Noted

_DONE: Final = State.DONE  # looked up once: see `nodes.health`
_CANCELLED: Final = State.CANCELLED
_WHY_WAITING: Final = (
    "unreachable:",
    "sick:",
    "unproven:",
    "gone:",
    "incapable:",
    "paused by ",
    "held below: ",
)
"""How the reasons begin for which a whole node waits."""
_ADDED: Final = ("skipped", "notes", "targets", "nodes")  # lists that versions before did not store
_PRIVATE: Final = frozenset({"digest", "callback", "token", "progress", "told", "by_target", "lower"})


def apply_late(stored: dict[str, Any], late: Late) -> None:
    """Fold what late delivery did into a stored document, in place.

    A document of which something was cancelled ends as cancelled, also one whose version did not count that:
    a stored task has nothing on its way, so what no count names was cancelled.
    """
    count = late.acked + late.failed
    layers = stored["layers"]
    waiting = [layer for layer in layers if layer["delayed"]]
    node = by_node.find_node(stored, late.node)
    name = late.layer if node is None else node["layer"]  # it may have moved to another layer
    if node is not None:
        by_node.late_of_node(node, late)
    for layer in [layer for layer in layers if layer["name"] == name] or waiting[:1]:
        over = count - layer["delayed"]
        layer["counter"] += late.acked
        layer["failed"] += late.failed
        layer["delayed"] = max(0, -over)
        for other in waiting:
            # Rows of a node that is not configured any more name no layer, and were counted here.
            moved = min(max(0, over), other["delayed"]) if other is not layer else 0
            over -= moved
            other["delayed"] -= moved
            failed = min(moved, layer["failed"])
            layer["failed"] -= failed
            other["failed"] += failed
            layer["counter"] -= moved - failed
            other["counter"] += moved - failed
        if over > 0 and layer.get("cancelled"):
            layer["cancelled"] -= min(over, layer["cancelled"])  # answered all the same
    _sum_up(stored)
    if late.absent:
        stored["absent"] = min(stored.get("absent", 0) + late.absent, stored["counter"])
    stored["updated_at"] = late.at
    if late.error is not None:
        if late.error["reason"].startswith(_WHY_WAITING):
            stored["errors"] = _without_waiting(stored["errors"], late.error["node"], late.error["reason"])
        if len(stored["errors"]) < ERRORS_MAX:
            stored["errors"].append(late.error)
    if stored["state"] not in FINAL_STATES and not stored["delayed"]:
        if stored["counter"] + stored["failed"] < sum(layer["total"] for layer in layers):
            cancel_stored(stored, late.at)
            return
        has_failed = stored["failed"] or (stored.get("verify") or {}).get("stale")
        stored["state"] = (State.FAILED if has_failed else _DONE).value
        if not has_failed:
            stored["errors"] = []  # they told why it was late
        _settle(stored, late.at)


def _settle(stored: dict[str, Any], at: float) -> None:
    stored["active"] = False
    stored["working_layer"] = None
    stored["settled_at"] = at


def note_waiting(stored: dict[str, Any], noted: Noted) -> None:
    """Say in a stored document what is noted, in place of what was before: mostly why its subtasks wait.

    One that has settled waits for nothing; what was done otherwise below a node it tells all the same.
    """
    if noted.reason and not is_final(stored):
        stored["errors"] = with_reason(stored["errors"], noted)
    if noted.skipped or noted.notes:
        lower.remark(stored, noted.node, noted.skipped, noted.notes)


def with_reason(errors: Sequence[dict[str, str]], noted: Noted) -> list[dict[str, str]]:
    """Return a task's errors with why its subtasks on a node wait, in place of why they waited before."""
    kept = _without_waiting(errors, noted.node)
    error = {"node": noted.node, "target": noted.target, "reason": noted.reason}
    return [*kept[: ERRORS_MAX - 1], error]


def _without_waiting(errors: Sequence[dict[str, str]], node: str, reason: str = "") -> list[dict[str, str]]:
    """Return errors without those that say why *node* waited, but for *reason*."""
    return [
        error
        for error in errors
        if error["node"] != node or error["reason"] == reason or not error["reason"].startswith(_WHY_WAITING)
    ]


def cancel_stored(stored: dict[str, Any], at: float) -> None:
    """Cancel what a stored document has no answer for, in place; *at* is the time of it."""
    stored["updated_at"] = at
    for layer in stored["layers"]:
        layer["cancelled"] = _unanswered(layer)
        layer["delayed"] = 0
    by_node.cancel_nodes(stored)
    _sum_up(stored)
    stored["state"] = _CANCELLED.value
    _settle(stored, at)


def _unanswered(layer: dict[str, Any]) -> int:
    """Return how many subtasks of a stored layer were neither acked nor failed."""
    return max(0, layer["total"] - layer["counter"] - layer["failed"])  # type: ignore[no-any-return]


def _sum_up(stored: dict[str, Any]) -> None:
    """Make the numbers of a stored task those of its layers."""
    for key in ("counter", "failed", "delayed", "cancelled"):
        stored[key] = sum(layer.get(key, 0) for layer in stored["layers"])


def callbacks_of(settled: Iterable[dict[str, Any]]) -> list[Callback]:
    """Return the callbacks that report stored documents which have just settled."""
    return [
        Callback(0, doc["task_id"], doc["callback"], msgspec.json.encode(public(doc)).decode())
        for doc in settled
        if "callback" in doc
    ]


def is_final(stored: dict[str, Any]) -> bool:
    """Return whether a stored document will not change any more."""
    return stored["state"] in FINAL_STATES


def public(stored: dict[str, Any]) -> dict[str, Any]:
    """Return a stored document as clients see it, with the fields that the versions before did not store.

    The numbers of a cancelled task add up, whichever version cancelled it.
    """
    shown = {key: value for key, value in stored.items() if key not in _PRIVATE}
    for key in _ADDED:
        shown.setdefault(key, [])
    for key in ("cancelled", "absent", "target_count"):
        shown.setdefault(key, 0)
    by = {"token": stored.get("token", ""), "address": "", "door": ""}
    shown["by"] = by | shown.get("by", {})
    for key in ("start_at", "verify", "retries", "rewind", "traceparent"):
        shown.setdefault(key, None)
    shown.setdefault("settled_at", shown.get("updated_at") if shown["state"] in FINAL_STATES else None)
    if shown["state"] == _CANCELLED:
        counted = sum(shown.get(key, 0) for key in ("counter", "failed", "delayed"))
        shown["cancelled"] = max(shown["cancelled"], shown.get("total", 0) - counted)
    shown["nodes"] = by_node.shown(shown["nodes"], shown.get("layers", []))
    return shown
