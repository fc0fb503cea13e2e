"""The views of several workers merged into one: statistics, nodes, metrics. Pure.

Counts and rates add up; the delay queues of a shared store are not added, as every worker sees the same rows.
Of a node's states the worst is shown. In the Prometheus page samples with the same name and labels are added,
except those that describe one process.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client.metrics_core import Metric

_BY_CONCERN: Final = ("paused", "down", "sick", "unproven", "catching_up", "refusing", "ready")
_BY_WEIGHT: Final = ("none", "prober", "shape", "mark", "signature", "any")
_SUMMED: Final = ("waiting", "in_flight", "delayed", "acked", "refused", "failed")
_HELD_SUMMED: Final = ("refused", "subtasks")
_HELD_LEAST: Final = ("since", "next_try_s")
_NOT_ADDED: Final = ("purgeline_build_info", "process_start_time_seconds", "process_max_fds", "python_info")
_OF_A_SOCKET: Final = "purgeline_datagrams_dropped"  #: all workers read it of the same one
_OF_ALL: Final = tuple(
    f"purgeline_redis_door_{name}" for name in ("pending", "lag", "oldest_pending_seconds")
)
"""What every worker asks a Redis for, of all workers."""
_LEAST: Final = frozenset(
    {
        "purgeline_node_ready",
        "purgeline_fresh_budget_left",
        "purgeline_redis_door_up",
        "purgeline_redis_replicas",
        "purgeline_redis_up",
    }
)
_MOST: Final = frozenset(
    {
        "purgeline_leaves",
        "purgeline_leaves_delayed",
        "purgeline_leaves_learned_timestamp_seconds",
        "purgeline_node_canary_stale",
        "purgeline_node_canary_timestamp_seconds",
        "purgeline_node_oldest_delayed_seconds",
        "purgeline_node_paused",
        "purgeline_node_refusing",
        "purgeline_node_unproven",
        "purgeline_origins_paused",
        "purgeline_redis_silence_seconds",
        "purgeline_redis_used_memory_bytes",
        "purgeline_store_bytes",
        "purgeline_store_failing",
    }
)
"""Of what each worker sees for itself, or all see alike: what is worst, or the same."""
_DELAYED: Final = ("purgeline_node_delayed", "purgeline_delayed")


def stats(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Add statistics documents up; ``timestamp`` is the latest."""
    total: dict[str, Any] = dict(documents[0])
    for document in documents[1:]:
        for key, value in document.items():
            if isinstance(value, dict):
                total[key] = {name: total[key][name] + part for name, part in value.items()}
            elif key == "timestamp":
                total[key] = max(total[key], value)
            else:
                total[key] += value
    return total


def nodes(lists: Sequence[list[dict[str, Any]]], *, is_shared: bool = False) -> list[dict[str, Any]]:
    """Return one document a node, in the order of the first list.

    Args:
        lists: the documents of each worker.
        is_shared: they have one store.
    """
    merged: dict[str, dict[str, Any]] = {}
    for document in (document for part in lists for document in part):
        if document["state"] == "returning":  # as a version before calls it
            document["state"] = "catching_up"
        node = merged.setdefault(document["name"], document)
        if node is document:
            continue
        node["absent"] = node.get("absent", 0) + document.get("absent", 0)  # a version before has none
        for key in _SUMMED:
            if is_shared and key == "delayed":
                node[key] = max(node[key], document[key])
            else:
                node[key] += document[key]
        node["oldest_delayed_s"] = max(node["oldest_delayed_s"], document["oldest_delayed_s"])
        if _concern(document["state"]) < _concern(node["state"]):
            node["state"], node["reason"] = document["state"], document.get("reason", "")
            node["since"] = document.get("since", 0)
        node["rewind"] = node.get("rewind") or document.get("rewind", "")
        node["held"] = _held([*node.get("held", ()), *document.get("held", ())], is_shared=is_shared)
        node["canary"] = max(node.get("canary"), document.get("canary"), key=_canary_at)
        node["evidence"] = min(node.get("evidence", ""), document.get("evidence", ""), key=_weight)
        if "leaves" in node or "leaves" in document:  # each worker asks for them: who knows best
            node["leaves"] = max(node.get("leaves"), document.get("leaves"), key=_known)
        if (document["last_error_at"] or 0) > (node["last_error_at"] or 0):
            node["last_error"], node["last_error_at"] = document["last_error"], document["last_error_at"]
    return list(merged.values())


def _held(parts: Sequence[dict[str, Any]], *, is_shared: bool) -> list[dict[str, Any]]:
    """Return what several workers hold as one: a document for each host and operation.

    What a node cannot do is counted in the store: of a shared one each worker counts the same rows.
    """
    merged: dict[tuple[str, str], dict[str, Any]] = {}
    for part in parts:
        held = merged.setdefault((part["host"], part["operation"]), part)
        if held is not part:
            is_same = is_shared and part["reason"].startswith("incapable:")
            for key in _HELD_SUMMED:
                held[key] = max(held[key], part[key]) if is_same else held[key] + part[key]
            for key in _HELD_LEAST:
                held[key] = min(held[key], part[key])
    return list(merged.values())


def _concern(state: str) -> int:
    return _BY_CONCERN.index(state) if state in _BY_CONCERN else -1


def _canary_at(canary: dict[str, Any] | None) -> float:
    """Return when a node's canary was tried: one worker tries all, and others what came back to them."""
    return canary["at"] if canary else 0.0


def _known(leaves: dict[str, Any] | None) -> tuple[bool, float]:
    return (bool(leaves["current"]), leaves["learned_at"]) if leaves else (False, -1.0)


def _weight(evidence: str) -> int:
    return _BY_WEIGHT.index(evidence) if evidence in _BY_WEIGHT else len(_BY_WEIGHT)


def metrics(pages: Sequence[str], *, is_shared: bool = False) -> bytes:
    """Return one Prometheus page of several, in text format 0.0.4; *is_shared*: they have one store."""
    from prometheus_client import generate_latest  # noqa: PLC0415 - of no use to a start

    return generate_latest(_Collected(pages, _NOT_ADDED + _DELAYED if is_shared else _NOT_ADDED))


class _Collected:
    """The samples of several pages; `generate_latest` takes it for a registry."""

    def __init__(self, pages: Sequence[str], not_added: Sequence[str]) -> None:
        self._pages = pages
        self._not_added = not_added

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.metrics_core import Metric  # noqa: PLC0415 - as above
        from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415 - as above

        families: dict[str, Metric] = {}
        sums: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = defaultdict(dict)
        for family in (family for page in self._pages for family in text_string_to_metric_families(page)):
            families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            values = sums[family.name]
            for sample in family.samples:
                key = (sample.name, tuple(sorted(sample.labels.items())))
                values[key] = self._join(family.name, values.get(key), sample.value)
        for name, family in families.items():
            for (sample_name, labels), value in sums[name].items():
                family.add_sample(sample_name, dict(labels), value)
            yield family

    def _join(self, name: str, before: float | None, value: float) -> float:
        if before is None:
            return value
        if name in _LEAST:
            return min(before, value)
        if name in self._not_added or name == _OF_A_SOCKET or name in _OF_ALL or name in _MOST:
            return max(before, value)
        return before + value
