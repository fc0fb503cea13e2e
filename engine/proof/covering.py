"""Which stored tasks cover a URL, and what each node made of them. Pure.

The history knows; without one the documents of tasks tell (`covering`). These name the first of their
targets, so of a task with more, or by key, or by a pattern, it may be open whether it covers a URL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.tasks.words import FINAL_STATES, Action, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_WORDS: Final = {"sent": "pending"}  #: of the history, as they are called here


class PurgeNode(msgspec.Struct):
    """What one node made of a purge."""

    name: str
    outcome: str  #: acked, absent, failed, delayed, cancelled, pending
    acked_at: float | None
    reason: str


class Purge(msgspec.Struct):
    """A task that covers a URL."""

    task_id: str
    kind: str
    match: str  #: the target of it that covers the URL
    is_sure: bool
    state: str
    by: dict[str, str]
    created_at: float
    settled_at: float | None
    start_at: float | None  #: it begins then; None: at once
    nodes: list[PurgeNode]

    def of(self, node: str) -> PurgeNode | None:
        """Return what a node made of it; None: it did not go there."""
        return next((one for one in self.nodes if one.name == node), None)


def covering(documents: Iterable[Mapping[str, Any]], url: str) -> list[Purge]:
    """Return the purges among *documents* that cover a URL in stored form, in their order."""
    found = []
    for document in documents:
        if document["action"] != Action.PURGE:
            continue
        match, is_sure = _match(document, url)
        if match:
            found.append(purge_of(document, match, is_sure=is_sure))
    return found


def _match(document: Mapping[str, Any], url: str) -> tuple[str, bool]:
    """Return the target that covers a URL, and whether that is sure; an empty text: none does."""
    kind, targets = document["kind"], document["targets"]
    rest = url.partition("://")[2]
    host = rest.partition("/")[0]
    for target in targets:
        if kind == Kind.HOST and _covers_host(target, host):
            return target, True
        if kind == Kind.KEY and _covers_host(target.partition("/")[0], host):
            return target, False
        bare = target.partition("://")[2]
        if (kind == Kind.URL and bare == rest) or (kind == Kind.PREFIX and rest.startswith(bare)):
            return target, True
        if kind == Kind.REGEX and _covers_host(bare.partition("/")[0], host):
            return target, False
    if document["target_count"] > len(targets):
        return f"one of its {document['target_count']} targets", False
    return "", False


def _covers_host(pattern: str, host: str) -> bool:
    if not pattern.startswith("*."):
        return pattern == host
    return host.partition(":")[0].endswith(pattern[1:])


def purge_of(
    document: Mapping[str, Any], match: str, *, is_sure: bool, outcomes: Mapping[str, str] | None = None
) -> Purge:
    """Return a purge that covers a URL.

    Args:
        document: of the task.
        match: the one of its targets that covers the URL.
        is_sure: whether it does.
        outcomes: what nodes made of that target, by name, where that is known: acked, failed, delayed,
            cancelled, sent; of the others the worst of their subtasks counts.
    """
    is_final = document["state"] in FINAL_STATES
    reasons: dict[str, str] = {}
    for error in document["errors"]:
        if error["target"] == match or not is_sure:
            reasons[error["node"]] = error["reason"]
    nodes = []
    for node in document["nodes"]:
        name, known = node["name"], (outcomes or {}).get(node["name"], "")
        outcome = _WORDS.get(known, known) or _outcome(node, is_final=is_final)
        if outcome == "acked" and node["absent"] and node["absent"] == node["acked"]:
            outcome = "absent"
        nodes.append(PurgeNode(name, outcome, node["acked_at"], reasons.get(name, "")))
    return Purge(
        task_id=document["task_id"],
        kind=document["kind"],
        match=match,
        is_sure=is_sure,
        state=document["state"],
        by=document["by"],
        created_at=document["created_at"],
        settled_at=document["settled_at"],
        start_at=document["start_at"],
        nodes=nodes,
    )


def _outcome(node: Mapping[str, Any], *, is_final: bool) -> str:
    """Return what a node made of its subtasks: the worst of them, in one word."""
    for word in ("failed", "cancelled", "delayed"):
        if node[word]:
            return word
    return "pending" if node["acked"] < node["total"] and not is_final else "acked"
