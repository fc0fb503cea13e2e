"""One round: a canary of one kind of purge, on all nodes at once, layer by layer.

A canary has a URL of its own, so rounds, engines and what caches had before do not touch each other.

1. Fill: every node is visited with the old value, those next to the origin first.
2. Hit: it is visited with the new value, and answers with the old one if it keeps the canary.
3. Purge: the new value is what the origin says from here on. A node is purged when its parents serve that.
4. Look: it is visited until it serves the new value, for at most `PATIENCE_S`; then it is stale.

An edge whose parent is stale could only fetch the old value again; nothing is held against it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, Final

from engine.base.backoff import backoff_s
from engine.nodes import drivers
from engine.nodes.canary import SURROGATE_KEY, visit
from engine.proof.canary_purge import purge
from engine.proof.canary_results import CanaryState, Found
from engine.tasks.words import Kind, Operation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.nodes.address import Address
    from engine.nodes.canary import Canary, Seen
    from engine.nodes.node import Node

PATIENCE_S: Final = 2.0
"""A cache may drop an object a moment after its answer (Apache Traffic Server says so of itself)."""
_LOOK_FIRST_S: Final = 0.005
_LOOK_MAX_S: Final = 0.25
_AT_ONCE: Final = 32  #: nodes
_OPERATIONS: Final = {kind: Operation[f"PURGE_{kind.name}"] for kind in Kind}
_PASSES: Final = frozenset({CanaryState.FRESH, CanaryState.NOT_CACHED})


def kinds_of(node: Node) -> list[Kind]:
    """Return the kinds of purges that canaries try on a node."""
    able = drivers.for_canaries(node.config)
    return [kind for kind, operation in _OPERATIONS.items() if operation in able]


class Round:
    """A canary of one kind.

    Args:
        canary: makes its values.
        entrances: where visitors come in at each node, by name.
        kind: of the purges; a node that cannot do it is purged by URL, so that its edges can be tried.
        timeout_s: of a visit, and of a purge.
    """

    def __init__(
        self, canary: Canary, entrances: Mapping[str, Address], kind: Kind, *, timeout_s: float
    ) -> None:
        self._canary = canary
        self._entrances = entrances
        self._kind = kind
        self._timeout_s = timeout_s
        self._url = canary.url(f"{secrets.token_hex(8)}-{kind}")
        self._old, self._new = canary.mint(), canary.mint()
        self._target = self._target_of(kind)
        self._free = asyncio.Semaphore(_AT_ONCE)
        self._found: dict[str, Found] = {}

    def __repr__(self) -> str:
        return f"<Round of {self._kind} [{len(self._found)} nodes]>"

    def _target_of(self, kind: Kind) -> str:
        host = self._canary.host
        if kind is Kind.HOST:
            return host
        if kind is Kind.KEY:
            return f"{host}/{SURROGATE_KEY}"
        return self._url  # which holds nothing that a pattern would take for more than it is, but dots

    async def run(self, layers: Sequence[Sequence[Node]]) -> dict[str, Found]:
        """Return what was found of each node.

        Args:
            layers: the nodes, those next to the origin first.
        """
        for nodes in layers:
            await asyncio.gather(*(self._one(node, is_fill=True) for node in nodes))
        for nodes in layers:
            await asyncio.gather(*(self._one(node, is_fill=False) for node in nodes))
        return self._found

    async def _one(self, node: Node, *, is_fill: bool) -> None:
        async with self._free:
            if is_fill:
                found = await self._fill(node)
                if found is not None:
                    self._found[node.name] = found
            elif node.name not in self._found:
                self._found[node.name] = await self._change(node)

    async def _fill(self, node: Node) -> Found | None:
        """Have a node keep the old value; None: it does."""
        if node.health.is_down:
            return Found(CanaryState.UNREACHABLE, node.health.away_reason)
        seen = await self._visit(node, self._old)
        if seen.value:
            seen = await self._visit(node, self._new)
        if not seen.value:
            state = CanaryState.UNREACHABLE if seen.is_down else CanaryState.NOT_ROUTED
            return Found(state, f"{node.name} {seen.why}")
        if seen.value != self._old:
            return Found(CanaryState.NOT_CACHED, f"{node.name} does not cache its canary ({self._url})")
        return None

    async def _change(self, node: Node) -> Found:
        behind = [
            name
            for name in node.config.parents or ()
            if name in self._found and self._found[name].state not in _PASSES
        ]
        if behind:
            return Found(CanaryState.BEHIND, f"its parent {behind[0]} has the old canary, or may have it")
        operation = _OPERATIONS[self._kind]
        target = self._target
        if operation not in drivers.for_canaries(node.config):
            operation, target = Operation.PURGE_URL, self._url
        began = time.perf_counter()  # the loop's clock counts whole milliseconds
        reason = await purge(node, operation, target, timeout_s=self._timeout_s)
        if reason:
            return Found(
                CanaryState.UNPURGED, f"{node.name}: the purge of the canary was not acked: {reason}"
            )
        return await self._look(node, began)

    async def _look(self, node: Node, began: float) -> Found:
        acked = time.perf_counter()
        attempt = 0
        while (seen := await self._visit(node, self._new)).value == self._old:
            after_s = time.perf_counter() - acked
            if after_s > PATIENCE_S:
                return Found(CanaryState.STALE, self._stale(node, after_s))
            await asyncio.sleep(backoff_s(attempt, first_s=_LOOK_FIRST_S, max_s=_LOOK_MAX_S))
            attempt += 1
        if not seen.value:
            return Found(CanaryState.UNREACHABLE, f"{node.name} {seen.why}, after its purge")
        return Found(CanaryState.FRESH, fresh_s=time.perf_counter() - began)

    def _stale(self, node: Node, after_s: float) -> str:
        return (
            f"{node.name} acked the purge of its canary ({self._kind}), and {after_s:.1f} s later serves the "
            f"old one on: its purges do not reach what visitors get"
        )

    async def _visit(self, node: Node, value: str) -> Seen:
        address = self._entrances[node.name]
        return await visit(address, self._canary, self._url, value, timeout_s=self._timeout_s)
