"""A worker's end of the line to its supervisor: orders come in, reports go out, a JSON document a line.

Orders and reports that are not known are ignored, so that versions next to each other understand each other.
When the supervisor dies, the line ends, and the worker drains quickly: a new supervisor needs the address and
the store.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from loguru import logger

from engine import _version
from engine.base import form
from engine.base.background import Background
from engine.errors import EngineError
from engine.workers.peers import Peer

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from engine.workers.peers import Peers

_ORPHAN_DRAIN_S: Final = 2.0
_TAKE_OVER_AGAIN_S: Final = 1.0


class Engine(Protocol):
    """What orders are about; see `Lifecycle`."""

    drain_limit_s: float

    async def go(self, listener: socket.socket, doors: Mapping[str, socket.socket]) -> bool:
        """Accept connections, and tell whether it does: not if it is ending."""

    async def take_over(self) -> None:
        """Go on with what the worker before left."""

    def stop(self) -> None:
        """Drain, and end."""


class Control:
    """Obeys and reports.

    Args:
        engine: of this worker.
        peers: the other workers, as the supervisor tells.
        listener: to accept on when the supervisor says so.
        writer: to the supervisor.
        doors: to accept on as well, by the names of their sockets.
        canaries: tells whether this worker has tried its nodes by canaries, which is reported.
    """

    def __init__(
        self,
        engine: Engine,
        peers: Peers,
        listener: socket.socket,
        writer: asyncio.StreamWriter,
        *,
        doors: Mapping[str, socket.socket],
        canaries: Callable[[], str],
    ) -> None:
        self._engine = engine
        self._peers = peers
        self._listener = listener
        self._doors = doors
        self._canaries = canaries
        self._writer = writer
        self._background = Background()

    async def obey(self, reader: asyncio.StreamReader) -> None:
        """Do what the supervisor says; drain when it does not say anything any more."""
        try:
            while line := await reader.readline():
                await self._obey_one(msgspec.json.decode(line))
        except ConnectionError:
            pass
        except EngineError as exc:
            logger.error("cannot do what the supervisor says, and ends: {}", exc)
            self.drain_within(_ORPHAN_DRAIN_S)
            return
        except Exception:  # noqa: BLE001 - it must end as if the supervisor had gone, not hang
            logger.exception("an order of the supervisor failed")
        logger.warning("the supervisor has gone; draining")
        self.drain_within(_ORPHAN_DRAIN_S)

    async def _obey_one(self, order: dict[str, Any]) -> None:
        match order.get("cmd"):
            case "peers":
                self._peers.update(msgspec.convert(order["workers"], list[Peer]))
            case "go":
                if await self._engine.go(self._listener, self._doors):
                    self.report("accepting", canaries=self._canaries())
                    what = f"{_version.__version__} ({form.form()})"
                    logger.info("purgeline {} accepts, worker {}", what, self._peers.slot)
            case "adopt":
                self._background.start(self._take_over())
            case "drain":
                self._engine.drain_limit_s = float(order.get("limit_s", self._engine.drain_limit_s))
                self.report("draining")
                self._engine.stop()

    def drain_within(self, limit_s: float) -> None:
        """Have the engine end, in *limit_s* seconds or what it has been given if that is less."""
        self._engine.drain_limit_s = min(limit_s, self._engine.drain_limit_s)
        self._engine.stop()

    async def _take_over(self) -> None:
        while True:
            try:
                await self._engine.take_over()
            except EngineError as exc:
                logger.error("cannot take up what the worker before left, trying again: {}", exc)
                await asyncio.sleep(_TAKE_OVER_AGAIN_S)
            else:
                return

    def report(self, event: str, **facts: object) -> None:
        """Tell the supervisor what has happened, if it is still there."""
        if not self._writer.is_closing():
            self._writer.write(msgspec.json.encode({"event": event, **facts}) + b"\n")

    def close(self) -> None:
        """Take over nothing more."""
        self._background.cancel()
