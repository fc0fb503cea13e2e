"""What an engine shows of itself: statistics, nodes, metrics, version, cluster; as one over all its workers.

A client's connection reaches one worker, and the overview must not depend on which: that worker asks the
others for their part and joins the parts (`engine.observe.merged`). The part of a worker that does not
answer is left out.
"""

from __future__ import annotations

import asyncio
import os
import platform
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine import _version
from engine.api.below import NONE_BELOW
from engine.base import form, loop
from engine.base.slices import slices
from engine.nodes import drivers
from engine.nodes.health import NodeState
from engine.observe import merged
from engine.observe.prometheus import EngineCollector, LeavesSample, NodeSample
from engine.proof.canary_results import CanaryState
from engine.tasks.words import Operation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from engine.api.below import Below, LeafStatus
    from engine.api.rewinding import Rewinding
    from engine.cluster.cluster import Cluster
    from engine.delivery.left_rows import LeftBehind, LeftNode
    from engine.delivery.queues import DelayQueues
    from engine.nodes.node import Node
    from engine.observe.counters import Stats
    from engine.observe.logs import Logs
    from engine.proof.report import ProofReport
    from engine.tasks.rewinds import Rewind
    from engine.workers.peers import Peers

    Ask = Callable[[str], Awaitable[list[bytes]]]  # a path of the workers' interface → the others' answers

Documents = list[dict[str, Any]]
_UNPROVEN_MAX: Final = 100


class Overview:
    """Answers for this worker (``own_…``), and for the whole engine (``all_…``).

    Args:
        stats: this worker's counters.
        nodes: name → node.
        delay: the nodes' delay queues.
        canary: returns what the last canaries showed of a node; None: there was none.
        left: finds rows that no configured node is going to take.
        rewinding: knows which nodes are being rewound.
        logs: this worker's log, whose dropped lines are counted.
        peers: the other workers, under a supervisor.
        cluster: with a store that several engines share.
        proof: tells of verification, and of the origins.
        below: tells of the leaves of nodes that are engines.
        in_thread: makes pages: purges do not wait for that, half a second of 1,000 nodes.
    """

    def __init__(
        self,
        stats: Stats,
        nodes: Mapping[str, Node],
        delay: DelayQueues,
        logs: Logs,
        *,
        left: LeftBehind,
        canary: Callable[[str], dict[str, Any] | None],
        rewinding: Rewinding,
        peers: Peers | None,
        cluster: Cluster | None,
        proof: ProofReport,
        below: Below = NONE_BELOW,
        in_thread: Callable[..., Awaitable[bytes]] = asyncio.to_thread,
    ) -> None:
        self._stats = stats
        self._nodes = nodes
        self._delay = delay
        self._logs = logs
        self._left = left
        self._canary = canary
        self._rewinding = rewinding
        self._peers = peers
        self._cluster = cluster
        self._proof = proof
        self._below = below
        self._in_thread = in_thread
        self._started_at = time.monotonic()
        self._metrics = EngineCollector(
            stats, _version.__version__, _version.__revision__, self._samples, self._leaf_samples
        )

    def version_document(self) -> dict[str, Any]:
        """Return the body of ``GET /version``."""
        return {
            "version": _version.__version__,
            "revision": _version.__revision__,
            "built_at": _version.__built_at__,
            "python": platform.python_version(),
            "compiled": form.is_compiled(),
            "loop": loop.NAME,
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self._started_at, 3),
        }

    async def cluster_document(self) -> dict[str, Any]:
        """Return the body of ``GET /v1/engine/cluster``.

        Raises:
            StoreError: the store cannot be read.
        """
        if self._cluster is not None:
            return await self._cluster.document()
        return {"mode": "embedded", "leader": None, "engines": []}

    # This worker

    def own_stats(self) -> dict[str, Any]:
        """Return this worker's part of ``GET /v1/engine/stats``."""
        return self._stats.document()

    def own_delayed(self) -> int:
        """Return how many rows the delay queues have that this worker knows."""
        return self._delay.total()

    async def all_delayed(self) -> int:
        """Return how many rows the delay queues of all workers have."""
        own = self.own_delayed()
        if self._peers is None or self._cluster is not None or not self._peers.others():
            return own
        counts: list[int] = [
            msgspec.json.decode(body) for body in await self._peers.ask_all("/worker/delayed")
        ]
        return own + sum(counts)

    def own_proof(self) -> dict[str, Any]:
        """Return this worker's part of ``proof`` there; a version before is not asked for it."""
        return self._proof.own()

    async def own_nodes(self) -> Documents:
        """Return this worker's nodes, as ``GET /v1/engine/nodes`` shows them, and those that are gone."""
        rewinds = self._rewinding.own()
        configured: Documents = []
        async for some in slices(list(self._nodes.values())):
            configured += [await self._node_document(node, rewinds.get(node.name)) for node in some]
        elsewhere = set() if self._cluster is None else self._cluster.configured()
        return configured + [self._left_document(one) for one in await self._left.nodes(elsewhere)]

    def own_unproven(self) -> dict[str, str]:
        """Return the unproven nodes, with the reason; not all, when they are many."""
        unproven = [node for node in self._nodes.values() if node.state is NodeState.UNPROVEN]
        return {node.name: node.health.last_error for node in unproven[:_UNPROVEN_MAX]}

    def own_needing_pages(self) -> list[str]:
        """Return the nodes that no probe can prove, only purges of pages: each process waits for its own."""
        return [node.name for node in self._nodes.values() if node.proving.judge.needs_pages]

    async def own_metrics(self) -> bytes:
        """Return this worker's Prometheus page."""
        return await self._in_thread(self._metrics.read().page)

    # As one, whichever worker is asked

    async def all_stats(self, ask: Ask | None = None) -> dict[str, Any]:
        """Return the body of ``GET /v1/engine/stats``; *ask* is in place of asking each worker anew."""
        stats, proof = [self.own_stats()], [self.own_proof()]
        if self._peers is not None and self._peers.others():
            ask = ask or self._peers.ask_all
            said = await asyncio.gather(ask("/worker/stats"), ask("/worker/proof"))
            stats += map(msgspec.json.decode, said[0])
            proof += map(msgspec.json.decode, said[1])
        return {**merged.stats(stats), "proof": self._proof.joined(proof)}

    async def all_nodes(self, ask: Ask | None = None) -> Documents:
        """Return the nodes of ``GET /v1/engine/nodes``; *ask* as in `all_stats`."""
        nodes = await self.own_nodes()
        if self._peers is not None and self._peers.others():
            others = map(_decode_documents, await (ask or self._peers.ask_all)("/worker/nodes"))
            nodes = merged.nodes([nodes, *others], is_shared=self._cluster is not None)
        unknown = [node["name"] for node in nodes if not node.get("rewind")]
        rewinds = await self._rewinding.elsewhere(unknown)
        for node in nodes:
            if rewind := rewinds.get(node["name"]):
                _show_rewind(node, rewind)
        return nodes

    async def leaves(self) -> list[LeafStatus]:
        """Return the leaves below nodes that are engines, as ``GET /v1/engine/nodes?leaves=1`` shows them."""
        return await self._below.leaves()

    async def all_metrics(self) -> bytes:
        """Return the Prometheus page."""
        own = await self.own_metrics()
        if self._peers is None or not self._peers.others():
            return own
        pages = [own, *await self._peers.ask_all("/worker/metrics")]
        texts, is_shared = [page.decode() for page in pages], self._cluster is not None
        return await self._in_thread(merged.metrics, texts, is_shared=is_shared)

    # Nodes

    async def _node_document(self, node: Node, rewind: Rewind | None) -> dict[str, Any]:
        state, reason, since = shown_state(node, rewind)
        last_error, last_error_at = node.health.recent_error()
        leaves = self._below.status(node.name)
        below = {} if leaves is None else {"leaves": msgspec.to_builtins(leaves)}
        return {
            "name": node.name,
            "layer": node.layer,
            "groups": node.config.groups,
            "driver": node.config.driver,
            "url": node.config.url,
            "state": state,
            "reason": reason,
            "since": round(since, 3),
            "waiting": node.waiting_count,
            "in_flight": node.in_flight,
            "delayed": self._delay.depth(node.name),
            "oldest_delayed_s": round(self._delay.oldest_s(node.name), 3),
            "acked": node.counting.acked_count,
            "absent": node.counting.absent_count,
            "refused": node.refused_count,
            "failed": node.failed_count,
            "evidence": node.proving.judge.rests_on,
            "held": [*node.holds.documents(), *await self._incapable(node)],
            "canary": self._canary(node.name),
            "last_error": last_error,
            "last_error_at": last_error_at,
            "notes": list(drivers.notes(node.config)),
            "rewind": "" if rewind is None else rewind.name,
            **below,
        }

    async def _incapable(self, node: Node) -> Documents:
        """Return what is held because the node cannot do it, as what it refuses is shown."""
        return [
            {
                "host": rows.host,
                "operation": Operation(rows.operation).name.lower(),
                "reason": rows.reason,
                "since": round(rows.since, 3),
                "refused": 0,
                "subtasks": rows.subtasks,
                "next_try_s": 0,
            }
            for rows in await self._left.rows(node)
        ]

    def _left_document(self, node: LeftNode) -> dict[str, Any]:
        return {
            "name": node.name,
            "layer": node.layer,
            "groups": [],
            "driver": "",
            "url": "",
            "state": "gone",
            "reason": node.reason,
            "since": round(node.since, 3),
            **dict.fromkeys(("waiting", "in_flight"), 0),
            "delayed": self._delay.depth(node.name),
            "oldest_delayed_s": round(self._delay.oldest_s(node.name), 3),
            **dict.fromkeys(("acked", "absent", "refused", "failed"), 0),
            "evidence": "",
            "held": [],
            "canary": None,
            "last_error": "",
            "last_error_at": 0.0,
            "notes": [],
            "rewind": "",
        }

    def _samples(self) -> list[NodeSample]:
        """Return what the Prometheus page says of each node; bring counters up to date that others keep."""
        self._stats.coalesced = sum(node.coalesced for node in self._nodes.values())
        self._stats.log_lines_dropped = self._logs.dropped
        if self._cluster is not None:
            self._stats.redis_reconnects = self._cluster.reconnects
        return list(map(self._sample, self._nodes.values()))

    def _leaf_samples(self) -> list[LeavesSample]:
        """Return what the Prometheus page says of leaves."""
        known = ((name, self._below.status(name)) for name in self._below.regions)
        return [
            LeavesSample(name, status.states, status.delayed, status.learned_at)
            for name, status in known
            if status is not None
        ]

    def _sample(self, node: Node) -> NodeSample:
        canary = self._canary(node.name)
        return NodeSample(
            node=node.name,
            layer=node.layer,
            driver=node.config.driver,
            ready=node.state is NodeState.READY,
            unproven=node.state is NodeState.UNPROVEN,
            paused=node.state is NodeState.PAUSED,
            refusing=node.holds.refused_since() is not None,
            waiting=node.waiting_count,
            in_flight=node.in_flight,
            delayed=self._delay.depth(node.name),
            oldest_delayed_s=self._delay.oldest_s(node.name),
            returns=node.health.returns,
            acked=node.counting.acked_count,
            absent=node.counting.absent_count,
            refused=node.refused_count,
            failed=node.failed_count,
            retried=node.retried_count,
            canary_stale=None if canary is None else canary["state"] == CanaryState.STALE,
            canary_timestamp_s=None if canary is None else canary["at"],
        )


def shown_state(node: Node, rewind: Rewind | None = None) -> tuple[str, str, float]:
    """Return a node's state, why it is not ready (empty: it is, or is about to be), and since when."""
    health = node.health
    if node.state is NodeState.READY:
        if rewind is not None:
            return NodeState.CATCHING_UP.value, rewind.reason, rewind.since
        refused = node.holds.refused_since()
        return ("ready", "", health.since) if refused is None else ("refusing", refused.reason, refused.since)
    if node.state is NodeState.PAUSED:
        return "paused", health.pause_reason, health.since
    state = node.state.value if node.state is not NodeState.RETURNING else NodeState.CATCHING_UP.value
    return state, health.last_error if health.keeps_rows else "", health.since


def _show_rewind(node: dict[str, Any], rewind: Rewind) -> None:
    """Have a node's document show a rewind by another engine, as `shown_state` does."""
    node["rewind"] = rewind.name
    if node["state"] in {NodeState.READY.value, "refusing"}:
        node["state"], node["reason"] = NodeState.CATCHING_UP.value, rewind.reason
        node["since"] = round(rewind.since, 3)


def _decode_documents(body: bytes) -> Documents:
    return msgspec.json.decode(body, type=Documents)
