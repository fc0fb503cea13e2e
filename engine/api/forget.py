"""Forgetting a node that is not configured any more: what is left of it fails now, in every worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.config.checks import NAME
from engine.errors import RequestError, StoreError
from engine.workers.peers import worker_path

if TYPE_CHECKING:
    import asyncio

    from engine.cluster.cluster import Cluster
    from engine.delivery.gone import GoneNodes
    from engine.workers.peers import Peers

_OK: Final = 200


class ForgetNode:
    """Answers ``DELETE /v1/engine/nodes/{name}``.

    Args:
        gone: settles what is left of a node.
        peers: the other workers, whose files are their own; None: there are none.
        cluster: with a store that several engines share.
        replayed: set while no worker before this one has work of its own in the stores.
    """

    def __init__(
        self, gone: GoneNodes, *, peers: Peers | None, cluster: Cluster | None, replayed: asyncio.Event
    ) -> None:
        self._gone = gone
        self._replayed = replayed
        self._peers = peers
        self._cluster = cluster

    async def forget(self, name: str) -> dict[str, Any]:
        """Forget a node, and return how many of its subtasks failed.

        Raises:
            RequestError: 409, an engine configures it; 404, nothing is known of it.
            StoreError: a store cannot be read or written, or a worker does not answer: asking again is safe.
        """
        if not NAME.fullmatch(name):
            raise _unknown(name)
        own = await self.forget_here(name)
        others = [] if self._peers is None else await self._ask(self._peers, name)
        if not any(part["known"] for part in (own, *others)):
            raise _unknown(name)
        return {"node": name, "failed": sum(part["failed"] for part in (own, *others))}

    async def forget_here(self, name: str) -> dict[str, Any]:
        """Forget a node in this worker's stores; ``known``: they had heard of it.

        Raises:
            RequestError: see `forget`.
            StoreError: see `forget`.
        """
        elsewhere = set() if self._cluster is None else self._cluster.configured()
        if not self._gone.is_gone(name, elsewhere):
            where = "this engine" if self._gone.is_configured(name) else "another engine of this store"
            raise RequestError(
                409, f"{name} is configured in {where}: only a node that is taken out of it is forgotten"
            )
        if not self._replayed.is_set():
            raise StoreError("the worker before this one may still send what waits; ask again in a moment")
        if not await self._gone.is_known(name):
            return {"known": False, "failed": 0}
        return {"known": True, "failed": await self._gone.forget(name)}

    async def _ask(self, peers: Peers, name: str) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = []
        for reply in await peers.ask_slots("DELETE", worker_path("nodes", name)):
            answer: dict[str, Any] = msgspec.json.decode(reply.body)
            if reply.status == 409:  # noqa: PLR2004 - HTTP
                raise RequestError(409, answer["detail"])
            if reply.status != _OK:
                raise StoreError(f"a worker of this engine could not forget it: {answer['detail']}")
            parts.append(answer)
        return parts


def _unknown(name: str) -> RequestError:
    return RequestError(404, f"{name!r} is not configured, and nothing waits for it")
