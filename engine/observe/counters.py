"""The engine's counters, and the statistics document made of them.

The engine counts by plain ``stats.tasks_done += 1`` on the loop's thread, so nothing here locks.
Measured (CPython 3.11): a counter takes 0.1 µs.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable  # noqa: TC003 - msgspec resolves the annotations of `Stats`
from typing import Annotated, Any, get_origin

import msgspec

from engine.observe.meters import Histogram, Meter

#: Queue lengths of the statistics document; each needs a `Stats.gauge`.
GAUGES = {
    "alert_queue": "Alerts waiting to be posted",
    "input_task_queue": "Tasks stored and not yet expanded",
    "notify_queue": "Callbacks waiting or in flight",
    "pushing_queue": "Subtasks waiting or in flight",
    "reporting_queue": "Answers not yet folded into their task",
    "saver_queue": "Records waiting for a saver",
    "tasks_in_cache": "Tasks in the region map",
    "timer_tasks": "Running due timers",
}

#: What else may have a `Stats.gauge`, of which only Prometheus is told.
FURTHER_GAUGES = {
    "alerts_silenced": "Alerts that a silence keeps from being sent",
    "connections": "Open connections of clients to the engine's port",
    "delayed": "Subtasks in delay queues",
    "fresh_budget_left": "Share of the objective's error budget that is left; below 0 it is missed",
    "origins_paused": "Origins through which nothing is fetched for now",
    "redis_replicas": "Replicas of the master that has fewest; absent while nobody tells",
    "redis_silence_seconds": "Since Redis answered this engine last, which asks once a second",
    "redis_up": "Whether Redis answered this engine's last question",
    "redis_used_memory_bytes": "Memory that the masters of the store use",
    "store_bytes": "Bytes of the store's files",
    "store_failing": "Whether the last commit failed, or a part of it",
}


class Stats(msgspec.Struct, eq=False):
    """What the engine counts; the annotated ints are the counters, with the help text Prometheus shows.

    Attributes:
        qps_boss: targets taken in.
        qps_proxy: requests answered by caches.
        accept_s: from a validated task to its 202.
        task_s: from accept to the task's settling.
        node_s: the oldest request on the wire, at each read of answers, by node; see `node_histogram`.
        fresh_s: from a task's POST until the last node of a layer was verified, by layer.
        canary_fresh_s: from the purge of a canary to the first visit that got the new one, by node and kind.
        canary_stale: canaries that were acked and served on, by node and kind.
        canaries: what canaries showed, by node and state.
        responses: answers to requests, by door and status; see `responses_of`.
        commit_s: of each batch that a saver wrote.
        gil_wait_s: from handing a batch to its saver's thread until that runs.
        loop_lag_s: how late a timer of the loop was, once a second.
        redis_beat_s: how long Redis took to answer a beat; None: there is no Redis.
        datagrams: what became of those that doors took, by outcome.
        redis_entries: what became of entries and messages, by Redis, stream or channels, and outcome.
        redis_doors: how each stream, or the channels of a door, stand: values by name.
        sources: how each gauge is read; see `gauge`.
        slow_sources: how those are that read a disk; the page is made in a thread.
    """

    tasks_accepted: Annotated[int, "Tasks answered with 202"] = 0
    tasks_replayed: Annotated[int, "Tasks answered with 200, seen before"] = 0
    tasks_done: Annotated[int, "Tasks with every subtask acked"] = 0
    tasks_failed: Annotated[int, "Tasks that failed"] = 0
    tasks_cancelled: Annotated[int, "Tasks cancelled by a client"] = 0
    tasks_partial: Annotated[int, "Tasks with subtasks undelivered at their due time"] = 0
    requests: Annotated[int, "Requests of clients"] = 0
    requests_failed: Annotated[int, "Requests answered 5xx for an error of the engine or its store"] = 0
    requests_refused: Annotated[int, "Requests refused as the client's error"] = 0
    requests_limited: Annotated[int, "Requests over their token's rate"] = 0
    requests_unavailable: Annotated[int, "Requests answered with 503"] = 0
    subtasks_acked: Annotated[int, "Subtasks a cache did"] = 0
    subtasks_absent: Annotated[int, "Subtasks whose target was not cached"] = 0
    subtasks_refused: Annotated[int, "Subtasks a cache refused"] = 0
    subtasks_failed: Annotated[int, "Subtasks given up"] = 0
    subtasks_retried: Annotated[int, "Attempts after the first"] = 0
    subtasks_delayed: Annotated[int, "Subtasks put into a delay queue"] = 0
    subtasks_redelivered: Annotated[int, "Subtasks delivered out of a delay queue"] = 0
    tree_handed: Annotated[int, "Shares of tasks that engines below took"] = 0
    tree_lost: Annotated[int, "Those of which they knew nothing when asked"] = 0
    tree_requests: Annotated[int, "Requests that handed them down"] = 0
    tree_questions: Annotated[int, "Questions what became of them"] = 0
    tree_taken: Annotated[int, "Tasks that an engine above handed down"] = 0
    group_reports: Annotated[int, "Reports of cache groups that an origin has invalidated"] = 0
    group_reports_ignored: Annotated[int, "Reports of cache groups that purge nothing"] = 0
    group_reports_repeated: Annotated[int, "Reports of cache groups that were told before"] = 0
    visits: Annotated[int, "Visits of nodes, as their visitors"] = 0
    subtasks_verified: Annotated[int, "Visits after an ack that got the new object"] = 0
    subtasks_stale: Annotated[int, "Acked subtasks of which visitors still got the old object"] = 0
    subtasks_unverifiable: Annotated[int, "Acked subtasks of which nobody can tell"] = 0
    fresh_counted: Annotated[int, "Times to fresh that the objective counts"] = 0
    fresh_missed: Annotated[int, "Times to fresh that missed the objective"] = 0
    coalesced: Annotated[int, "Subtasks settled by the request of another"] = 0
    prefetched_bytes: Annotated[int, "Bytes drained by prefetches"] = 0
    store_errors: Annotated[int, "Failed reads or writes of the store"] = 0
    datagrams_dropped: Annotated[int, "Datagrams that the kernel dropped, of doors that take them"] = 0
    log_lines_dropped: Annotated[int, "Log lines dropped, the writer being blocked or broken"] = 0
    redis_reconnects: Annotated[int, "Connections to the store's Redis that broke or could not be made"] = 0
    callbacks_sent: Annotated[int, "Callbacks delivered"] = 0
    callbacks_failed: Annotated[int, "Callbacks given up"] = 0
    alerts_sent: Annotated[int, "Alerts delivered"] = 0
    qps_boss: Meter = msgspec.field(default_factory=Meter)
    qps_proxy: Meter = msgspec.field(default_factory=Meter)
    accept_s: Histogram = msgspec.field(default_factory=Histogram)
    task_s: Histogram = msgspec.field(default_factory=Histogram)
    node_s: dict[str, Histogram] = {}
    fresh_s: dict[str, Histogram] = {}
    canary_fresh_s: dict[tuple[str, ...], Histogram] = {}
    canary_stale: dict[tuple[str, ...], int] = {}
    canaries: dict[tuple[str, ...], int] = {}
    responses: dict[str, dict[int, int]] = {}
    commit_s: Histogram = msgspec.field(default_factory=Histogram)
    gil_wait_s: Histogram = msgspec.field(default_factory=Histogram)
    loop_lag_s: Histogram = msgspec.field(default_factory=Histogram)
    redis_beat_s: Histogram | None = None
    datagrams: dict[str, int] = {}
    redis_entries: dict[tuple[str, ...], int] = {}
    redis_doors: dict[tuple[str, ...], dict[str, float]] = {}
    sources: dict[str, Callable[[], float | None]] = {}
    slow_sources: dict[str, Callable[[], float]] = {}

    def node_histogram(self, node: str) -> Histogram:
        """Return the node's histogram, made at the first call; keep it, not its name."""
        return self.node_s.setdefault(node, Histogram())

    def fresh_histogram(self, layer: str) -> Histogram:
        """Return the histogram of a layer's time to fresh."""
        return self.fresh_s.setdefault(layer, Histogram())

    def canary_histogram(self, node: str, kind: str) -> Histogram:
        """Return the histogram of a node's canaries of one kind of purge."""
        return self.canary_fresh_s.setdefault((node, kind), Histogram())

    def responses_of(self, door: str) -> dict[int, int]:
        """Return the counts of a door's answers by status, made at the first call; keep them."""
        return self.responses.setdefault(door, defaultdict(int))

    def gauge(self, name: str, fn: Callable[[], float | None]) -> None:
        """Say how to read a gauge, one of `GAUGES` or `FURTHER_GAUGES`; what reads as None is left out."""
        self.sources[name] = fn

    def check(self) -> None:
        """Make sure, at the start, that every queue of the document has a source.

        Raises:
            KeyError: names the gauges that have none.
        """
        if missing := sorted(GAUGES.keys() - self.sources.keys()):
            raise KeyError(f"gauges without a source: {', '.join(missing)}")

    def document(self) -> dict[str, Any]:
        """Return the body of ``GET /v1/engine/stats``; ``timestamp`` is UNIX seconds.

        Raises:
            KeyError: a gauge has no source; `check` finds that at the start.
        """
        document: dict[str, Any] = {name: self.sources[name]() for name in GAUGES}
        document["qps_boss"] = self.qps_boss.snapshot()
        document["qps_proxy"] = self.qps_proxy.snapshot()
        document["timestamp"] = int(time.time())
        return document


def texts(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Return the annotated fields of *kind*, and what each counts."""
    fields = msgspec.structs.fields(kind)
    return {field.name: field.type.__metadata__[0] for field in fields if get_origin(field.type) is Annotated}


COUNTERS = texts(Stats)  #: name of each counter, and what it counts
