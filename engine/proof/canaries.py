"""Canaries of all nodes, every ``interval_s``, on one engine of those that share a store.

The engine that leads runs them, of one with an embedded store the first worker; the others show what it
found. Each engine tries the nodes that come back to itself: a node whose canary is stale then is not ready,
and is tried again; one from which canaries are not routed, or that cannot be visited, is ready without.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from loguru import logger

from engine.errors import StoreError
from engine.nodes.address import visit_address_of
from engine.proof.canary_results import CanaryResults, CanaryState, Found
from engine.proof.canary_round import Round, kinds_of
from engine.tasks.words import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from engine.nodes.canary import Canary
    from engine.nodes.node import Node
    from engine.observe.counters import Stats
    from engine.proof.canary_results import NodeCanary
    from engine.proof.canary_store import CanaryStore

_FIRST_S: Final = 0.5  #: after the start: other workers begin to accept as well
_TRY_AGAIN_S: Final = 5.0  #: a node that came back with a stale canary
_KEY_AGAIN_S: Final = 1.0  #: the key is read again at most so often, whatever visitors send
_GIVES_UP: Final = frozenset({CanaryState.UNREACHABLE, CanaryState.NOT_ROUTED, CanaryState.NOT_CACHED})
"""What the other kinds would only show again."""


class Canaries:
    """Runs them.

    Args:
        canary: makes and checks values.
        nodes: by name; those that are engines have canaries of their own, and are left out.
        layers: their names, those next to the origin first.
        store: shared with other engines.
        stats: counts results.
        interval_s: between the starts of two rounds.
        timeout_s: of a visit, and of a purge.
        may_run: tells whether this engine is the one that runs them.
        on_alert: told what an operator should know: key, level, message, and facts by name.

    Raises:
        OSError: the CA file of a node cannot be read.
    """

    def __init__(
        self,
        canary: Canary,
        nodes: Mapping[str, Node],
        layers: Sequence[str],
        *,
        store: CanaryStore,
        stats: Stats,
        interval_s: float,
        timeout_s: float,
        may_run: Callable[[], bool],
        on_alert: Callable[..., None],
    ) -> None:
        self.results = CanaryResults(stats)
        self._canary = canary
        self._nodes = nodes
        self._entrances = {name: visit_address_of(node.config) for name, node in nodes.items()}
        self._layers = layers
        self._store = store
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._may_run = may_run
        self._on_alert = on_alert
        self._running: asyncio.Task[None] | None = None
        self._told: dict[str, CanaryState] = {}  # nodes of which operators know that something is wrong
        self._key_at = 0.0  # when it was read
        self._stale_at: dict[str, float] = {}  # of nodes that came back
        self._rounds = 0  # that this process has run to their end

    def __repr__(self) -> str:
        return f"<Canaries of {len(self._nodes)} nodes, every {self._interval_s:g} s>"

    @property
    def progress(self) -> str:
        """Whether this process has tried all nodes: ``seen``, ``waiting``; ``elsewhere``: others do that."""
        return "seen" if self._rounds else "waiting" if self._may_run() else "elsewhere"

    async def open(self) -> None:
        """Read the key, or make it.

        Raises:
            StoreError: the store cannot be read or written.
        """
        self._key_at = time.monotonic()
        self._canary.key = await self._store.key()

    async def answer(self, value: str) -> bool:
        """Tell whether the canary origin may answer with a value, which came from anywhere.

        The key may be another one by now: a store that was emptied is given a new one by whoever is first.
        """
        if self._canary.is_own(value):
            return True
        if time.monotonic() - self._key_at < _KEY_AGAIN_S:
            return False
        try:
            await self.open()
        except StoreError:
            return False
        return self._canary.is_own(value)

    def start(self) -> None:
        """Begin: requests are accepted from here on."""
        if self._running is None:
            self._running = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _run(self) -> None:
        await asyncio.sleep(min(_FIRST_S, self._interval_s))
        while True:
            began = time.monotonic()
            try:
                await self._turn()
            except StoreError as exc:
                logger.debug("canaries have to wait: {}", exc)
            except Exception:  # noqa: BLE001 - without a next round nobody would see that there are none
                logger.exception("a round of canaries failed")
            await asyncio.sleep(max(0.0, began + self._interval_s - time.monotonic()))

    async def _turn(self) -> None:
        if not self._may_run():
            self._adopt(await self._store.results())
            return
        await self.open()
        await self.run_all()
        await self._store.save(self.results.last)

    def _adopt(self, results: Mapping[str, NodeCanary]) -> None:
        """Take over what the engine that runs them has found and told."""
        self.results.adopt(results, self._nodes)
        self._told = {
            name: one.state
            for name, one in self.results.last.items()
            if one.state in {CanaryState.STALE, CanaryState.NOT_ROUTED}
        }

    async def run_all(self) -> None:
        """Run one round of each kind on all nodes."""
        found: dict[str, dict[str, Found]] = {name: {} for name in self._nodes}
        left = dict(self._nodes)
        for kind in Kind:
            able = {name for name, node in left.items() if kind in kinds_of(node)}
            if not able:
                continue
            around = {name: node for name, node in left.items() if name in able or self._is_above(name, able)}
            for name, one in (await self._round(kind, around)).items():
                if name in able:
                    found[name][kind] = one
                if one.state in _GIVES_UP:
                    left.pop(name, None)
        for name, kinds in found.items():
            if kinds:
                self._tell(name, self.results.take(name, kinds))
        self._rounds += 1

    def _is_above(self, name: str, others: set[str]) -> bool:
        """Tell whether a node is a parent of others, or of their parents."""
        return any(name in self._above(other) for other in others)

    def _above(self, name: str) -> set[str]:
        parents = {parent for parent in self._nodes[name].config.parents or () if parent in self._nodes}
        return parents.union(*map(self._above, parents))

    async def _round(self, kind: Kind, nodes: Mapping[str, Node]) -> dict[str, Found]:
        layers = [[node for node in nodes.values() if node.layer == layer] for layer in self._layers]
        return await Round(self._canary, self._entrances, kind, timeout_s=self._timeout_s).run(layers)

    def _tell(self, name: str, result: NodeCanary) -> None:
        """Tell operators what is new."""
        state, told, node = result.state, self._told.get(name), self._nodes[name]
        facts = {"node": name, "layer": node.layer}
        if state is CanaryState.STALE:
            self._told[name] = state
            self._on_alert(f"canary:{name}", "error", result.reason, event="canary.stale", **facts)
        elif state is CanaryState.NOT_ROUTED and told is not state:
            self._told[name] = state
            text = (
                f"canaries are not routed from {name} to the engine, and show nothing: {result.reason}; "
                f"purgeline render {node.config.driver} --config … prints the lines"
            )
            self._on_alert(f"canary:{name}", "warning", text, event="canary.not_routed", **facts)
        elif state in {CanaryState.FRESH, CanaryState.NOT_CACHED} and told is not None:
            del self._told[name]
            text = f"{name}: its canary is {state.replace('_', ' ')} again"
            self._on_alert(f"canary:{name}", "resolved", text, event="canary.fresh", **facts)

    async def lets_in(self, node: Node) -> bool:
        """Try a node that has come back; False: its canary is stale, so visitors should not be sent there."""
        now = time.monotonic()
        if node.name not in self._nodes:
            return True
        if now - self._stale_at.get(node.name, -_TRY_AGAIN_S) < _TRY_AGAIN_S or not self._canary.key:
            return not self._canary.key
        nodes = {name: self._nodes[name] for name in (*self._above(node.name), node.name)}
        found = (await self._round(Kind.URL, nodes))[node.name]
        self._tell(node.name, self.results.take(node.name, {Kind.URL: found}))
        if found.state is not CanaryState.STALE:
            self._stale_at.pop(node.name, None)
            return True
        self._stale_at[node.name] = time.monotonic()
        return False
