"""Pausing a node and resuming it: in the store, and in every worker before the answer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.config.hints import did_you_mean
from engine.errors import RequestError, StoreError
from engine.tasks.records import Pause
from engine.workers.peers import worker_path

if TYPE_CHECKING:
    from collections.abc import Collection

    from engine.cluster.cluster import Cluster
    from engine.delivery.pauses import Pauses
    from engine.workers.peers import Peers

_OK: Final = 200


class _Told(msgspec.Struct):
    """What a worker answers another. Fields are only added, and are optional."""

    counts: Pause | None = None  #: what it does from now on; None: a version before does not say


class PauseNode:
    """Answers ``POST /v1/engine/nodes/{name}/pause`` and ``/resume``.

    Args:
        pauses: of this worker.
        nodes: the names of the configured ones.
        peers: the other workers; None: there are none.
        cluster: with a store that several engines share: the others do as the store says.
    """

    def __init__(
        self, pauses: Pauses, nodes: Collection[str], *, peers: Peers | None, cluster: Cluster | None
    ) -> None:
        self._pauses = pauses
        self._nodes = nodes
        self._peers = peers
        self._cluster = cluster

    async def change(self, name: str, by: str, *, is_paused: bool) -> dict[str, Any]:
        """Pause or resume a node; return whether it is paused, by whom that was said first, and when.

        Raises:
            RequestError: 404, no engine configures it; 409, a newer change counts.
            StoreError: a store cannot be written, or a worker does not answer: asking again is safe.
        """
        if not self._is_known(name):
            detail = f"{name!r} is not configured: takes the name of a node of this engine"
            raise RequestError(404, detail, hint=partial(did_you_mean, name, list(self._nodes)))
        await self._pauses.refresh()
        asked = Pause(name, by, self._pauses.next_at(name), is_paused)
        pause = await self._pauses.change(asked)
        told = [] if self._peers is None else await self._tell(self._peers, asked)
        for other in (pause, *told):
            if other.is_paused != is_paused:
                await self._pauses.change(other)  # so what is asked for next is newer than that
                if self._peers is not None:  # a worker may have heard of this change alone
                    await self._tell(self._peers, other)
                done = "paused" if other.is_paused else "resumed"
                raise RequestError(409, f"{name} was {done} by {other.by} meanwhile, and that counts")
        return {"node": name, "paused": pause.is_paused, "by": pause.by, "since": pause.at}

    def _is_known(self, name: str) -> bool:
        if name in self._nodes or self._pauses.is_paused(name):
            return True
        return self._cluster is not None and name in self._cluster.configured()

    async def change_here(self, text: bytes) -> bytes:
        """Do in this worker what another was asked for, unless a newer change counts; return which does.

        Args:
            text: the pause, as JSON.

        Raises:
            StoreError: its store cannot be written.
        """
        pause = await self._pauses.change(msgspec.json.decode(text, type=Pause))
        return msgspec.json.encode(_Told(pause))

    async def _tell(self, peers: Peers, pause: Pause) -> list[Pause]:
        """Have the other workers do the same; each with stores of its own has to, before a client is told.

        Returns:
            What counts in each from now on.
        """
        path, text = worker_path("pause"), msgspec.json.encode(pause)
        if self._cluster is not None:
            await peers.ask_all(path, "PUT", text)
            return []
        told: list[Pause] = []
        for reply in await peers.ask_slots("PUT", path, text):
            if reply.status != _OK:
                said = f"it answers {reply.status}"
                raise StoreError(f"a worker of this engine could not do it, ask again in a moment: {said}")
            counts = msgspec.json.decode(reply.body, type=_Told).counts
            told += [] if counts is None else [counts]
        return told
