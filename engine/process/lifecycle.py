"""One engine from start to exit.

Start order: store, savers, outbox (callbacks and alerts), what the store holds, interface, housekeeping,
listener. Stop order is its reverse: stop accepting and finish the requests under way, give what is on its way
to nodes time to be answered, then the savers, the outbox, the store. What could not be finished is in the
store and goes on at the next start, or in the worker after this one. SIGTERM (or SIGINT) once drains;
a second one stops at once: nothing acknowledged is lost by that either, it is only done again.

`Lifecycle.prepare` and `Lifecycle.accept_on` are apart for hot reloads: a new worker is prepared whole, and
asked whether it is, before it takes a single connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from loguru import logger

from engine.base import loop
from engine.base.backoff import backoff_s
from engine.config.checks import warnings_of
from engine.doors.ports import all_gates
from engine.errors import StoreError, StoreUnusableError
from engine.intake.fast_lane import ClientConnection
from engine.intake.listener import Listener

if TYPE_CHECKING:
    import socket
    from collections.abc import Coroutine, Mapping, Sequence

    from engine.intake.gate import Gate
    from engine.process.build import Parts

_RETRY_FIRST_S: Final = 0.1
_RETRY_MAX_S: Final = 1.0
_GRACE_S: Final = 1.0
_GO_LIMIT_S: Final = 5.0  #: less than the supervisor waits for a worker to accept
"""After the listener is closed: time for clients that are between two requests on a connection."""


class Lifecycle:
    """Starts an engine, waits for its end, and stops it. It alone is handed all parts.

    Args:
        parts: see `build`.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.drain_limit_s = parts.core.config.engine.drain_timeout_s
        self._loop = asyncio.get_running_loop()
        self._stop_requested = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._listener: Listener | None = None
        self._later: asyncio.Task[None] | None = None  # the rest of a start that waits for the store
        self._gates = all_gates(parts.interface.gate, parts.doors)

    # Start

    async def start(self, listener: socket.socket, doors: Mapping[str, socket.socket] | None = None) -> None:
        """Prepare, and accept connections on *listener*, and on the sockets of *doors*.

        Raises:
            StoreError: see `prepare`.
        """
        await self.prepare()
        self.accept_on(listener, doors or {})

    async def prepare(self) -> None:
        """Open the store, and go on with what it holds unless a predecessor still works on it.

        With a shared store that is away, for a failover say, this returns all the same: the engine answers
        503 and is not ready, until it has found the store.

        Raises:
            StoreError: the store cannot be used.
        """
        parts, core = self.parts, self.parts.core
        if core.peers is None or core.peers.slot == 0:  # one worker speaks for all
            for text in warnings_of(core.config):
                logger.warning("{}", text)
            if loop.WHY_NOT_UVLOOP:
                text = "runs on asyncio's own loop: {}; uvloop, which is faster, is the extra purgeline[fast]"
                logger.info(text, loop.WHY_NOT_UVLOOP)
        why = await self._away(self._open_stores())
        await parts.canaries.listen()
        parts.elsewhere.open(has_others=core.peers is not None or core.is_shared)
        for saver in core.savers.savers:
            saver.start()
        await core.outbox.start()
        if why is None:
            why = await self._away(self._recover())
        if why is not None:
            await self._open_ports()
            self._later = self._loop.create_task(self._prepare_later(why))
            return
        for node in core.nodes.values():
            node.start()
        await self._open_ports()
        self._note_prepared()

    async def _away(self, work: Coroutine[Any, Any, None]) -> StoreError | None:
        """Await a part of the start; return why it has to be done again: a shared store is away."""
        try:
            await work
        except StoreUnusableError:
            raise
        except StoreError as exc:
            if self.parts.cluster is None:
                raise
            return exc
        return None

    async def _open_ports(self) -> None:
        """Make the interface and the doors ready for connections."""
        await self.parts.interface.api.start()
        await self.parts.doors.open()

    async def _open_stores(self) -> None:
        await self.parts.stores.open(self.parts.core.savers, self.parts.core.reader)
        await self.parts.core.silences.refresh()  # before the first alert is sent

    async def _recover(self) -> None:
        """Go on with what the store holds."""
        parts = self.parts
        await parts.canaries.open()
        await parts.delivery.gone.refresh()
        await parts.delivery.pauses.refresh()
        if parts.cluster is None:
            await parts.replay.at_start()
        else:
            parts.replayed.set()
            await parts.cluster.join(parts.core.nodes)

    def _note_prepared(self) -> None:
        self.parts.delivery.gone.start()
        self.parts.readiness.note_prepared()
        self.parts.interface.signer.start()
        self.parts.housekeeping.start()

    async def _prepare_later(self, why: StoreError) -> None:
        """Open the store when it is back, and go on with the start."""
        parts, core = self.parts, self.parts.core
        failures = 0
        away: StoreError | None = why
        try:
            while away is not None:
                parts.admission.waits_for = away
                if parts.readiness.waits_for != str(away):
                    text = f"the engine is starting, new tasks are answered 503: {away}"
                    core.on_alert("store", "error", text)
                parts.readiness.waits_for = str(away)
                await asyncio.sleep(backoff_s(failures, first_s=_RETRY_FIRST_S, max_s=_RETRY_MAX_S))
                failures += 1
                away = await self._away(self._open_stores()) or await self._away(self._recover())
        except StoreUnusableError as exc:
            parts.readiness.waits_for = str(exc)
            logger.error("cannot start: {}", exc)
            self.stop()
            return
        parts.admission.waits_for = None
        for node in core.nodes.values():
            node.start()
        self._note_prepared()
        core.on_alert("store", "resolved", "the store is there; the engine is ready")

    async def go(self, listener: socket.socket, doors: Mapping[str, socket.socket]) -> bool:
        """Accept as `accept_on` does when the supervisor says so; tell whether it does: not if it is ending.

        Until it is announced, which is just before, who pauses a node, or silences alerts, asks the worker
        before this one alone. That has written the pause into the files of both.

        Raises:
            StoreError: the store cannot be read.
        """
        if self.parts.cluster is None:
            try:
                async with asyncio.timeout(_GO_LIMIT_S):
                    await self.parts.delivery.pauses.refresh()
                    await self.parts.core.silences.refresh()
            except TimeoutError:
                raise StoreError(f"which nodes are paused could not be read in {_GO_LIMIT_S:g} s") from None
        if self._stop_requested.is_set():
            return False
        self.accept_on(listener, doors)
        return True

    def accept_on(self, listener: socket.socket, doors: Mapping[str, socket.socket]) -> None:
        """Accept connections on *listener* and on the sockets of *doors*, which listen already."""
        make_connection = partial(ClientConnection, self.parts.interface.gate, self._loop)
        self._listener = Listener(listener, make_connection)
        self._listener.start()
        self.parts.canaries.start()
        self.parts.tree.start()
        self.parts.doors.accept_on(doors)

    async def take_over(self) -> None:
        """The worker before this one has gone: go on with what it left.

        Raises:
            StoreError: the store cannot be read or written.
        """
        self.parts.elsewhere.take_left()
        await self.parts.delivery.pauses.refresh()
        await self.parts.core.silences.refresh()
        if self.parts.cluster is None:
            await self.parts.replay.take_over()
        else:
            await self.parts.cluster.look()

    # Run

    def stop(self) -> None:
        """Ask for the end; a second time, at once."""
        self.parts.readiness.note_draining()
        if self._stop_requested.is_set():
            self._stop_now.set()
        self._stop_requested.set()

    async def run_until_stopped(self) -> None:
        """Wait for the first `stop`, then drain."""
        await self._stop_requested.wait()
        drain = self._loop.create_task(self.drain())
        now = self._loop.create_task(self._stop_now.wait())
        await asyncio.wait({drain, now}, return_when=asyncio.FIRST_COMPLETED)
        now.cancel()
        if not drain.done():
            logger.warning("stopping at once; unfinished work goes on at the next start")
            drain.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await drain
            await self._close(flush_s=2)
        else:
            drain.result()

    # Stop

    async def drain(self) -> None:
        """Stop in order, within `drain_limit_s`."""
        load, gates = self.parts.delivery.load, self._gates
        limit_s = self.drain_limit_s
        until = self._loop.time() + limit_s
        self.parts.readiness.note_draining()
        logger.info("draining: no new connections; {} subtasks on their way", load.live)
        self._stop_accepting()
        for gate in gates:
            gate.drain()
        self.parts.doors.stop_waiting()
        await _wait_closed(gates, min(_GRACE_S, limit_s / 4))
        for gate in gates:
            gate.close_idle()
        await _wait_closed(gates, limit_s / 2)  # a slow client may not take all of the time
        await self.parts.doors.wait_saved(max(0.0, until - self._loop.time()) / 2)
        left_s = max(0.0, until - self._loop.time() - min(2.0, limit_s / 4))
        if not await load.drain(left_s):
            logger.warning("{} subtasks are not done; they go on at the next start", load.live)
        await self._close(flush_s=max(0.5, until - self._loop.time()))

    async def _close(self, flush_s: float) -> None:
        """Close the parts, the last that was started first; the savers have *flush_s* seconds to write."""
        self._stop_accepting()
        self.parts.readiness.note_ending()
        if self._later is not None:
            self._later.cancel()
        self.parts.housekeeping.stop()
        await self._stop_delivery()
        self._save_last_progress()
        await self._flush_savers(flush_s)
        await self._close_interface(flush_s)
        if self.parts.cluster is not None:
            await self.parts.cluster.leave()
        self._close_stores()
        logger.info("stopped")

    def _stop_accepting(self) -> None:
        if self._listener is not None:
            self._listener.close()
        self.parts.doors.stop_accepting()

    async def _stop_delivery(self) -> None:
        await self.parts.canaries.stop()
        self.parts.delivery.dispatch.stop()
        self.parts.proof.stop()
        self.parts.tree.stop()
        await self.parts.delivery.gone.stop()
        await self.parts.delivery.redelivery.stop()
        for node in self.parts.core.nodes.values():
            node.close()

    def _save_last_progress(self) -> None:
        """Have whoever takes tasks over begin where they are: what was acked is not sent again."""
        touched = self.parts.delivery.touched
        if touched:
            [saver] = self.parts.core.savers.savers  # a shared store has one
            saver.save_progress(touched.take(is_last=True))

    async def _flush_savers(self, flush_s: float) -> None:
        for saver in self.parts.core.savers.savers:
            if not await saver.drain(flush_s):
                logger.warning("not everything could be written: {}", saver.error or "out of time")

    async def _close_interface(self, flush_s: float) -> None:
        core, interface = self.parts.core, self.parts.interface
        for gate in self._gates:
            gate.close()
        await self.parts.doors.close()
        await self.parts.canaries.close()
        await core.outbox.drain(min(flush_s, 2.0))
        await interface.api.close()
        await self.parts.proof.close()
        await self.parts.tree.close()
        if core.peers is not None:
            await core.peers.close()
        if core.spans is not None:
            await core.spans.close()

    def _close_stores(self) -> None:
        core = self.parts.core
        core.timer.close()
        core.dues.close()
        self.parts.elsewhere.close()
        for saver in core.savers.savers:
            saver.stop()
            saver.store.close()
        core.history_reader.close()
        core.reader.close()


async def _wait_closed(gates: Sequence[Gate], timeout_s: float) -> None:
    """Wait until every connection of every gate is closed, for at most *timeout_s*."""
    await asyncio.gather(*(gate.wait_closed(timeout_s) for gate in gates))
