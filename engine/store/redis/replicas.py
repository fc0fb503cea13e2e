"""What replicas a master has, and whether the server that answered a WAIT is the master still.

A WAIT says how many replicas have a write. That outlives a failover when every replica that can take the
master's place has it. When fewer were waited for, it counts only while the others call that server the
master: one that was cut off together with a replica goes on acknowledging, and all of that is lost when both
come back. The others are a majority of the Sentinels, or the masters of a cluster; a server is told by what
it calls itself (*mark*): its replication id there, its node id here.

A majority decides too which replicas are away and not waited for by ``wait_replicas = "all"``: one that only
the minority on this side cannot see may be the next master on the other side.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from redis import Redis

from engine.errors import StoreError
from engine.store.redis.servers import AWAY

if TYPE_CHECKING:
    from engine.config.redis_url import RedisUrl
    from engine.store.redis.script import Command
    from engine.store.redis.servers import Server, Servers

WaitReplicas = int | Literal["all"]
_FRESH_S: Final = 1.0  #: a look tells about a write that was answered so long after it began


class Master(msgspec.Struct, frozen=True):
    """A master, as the others see it."""

    known: int  #: its replicas
    present: int  #: those that a majority does not call away


class Look(msgspec.Struct, frozen=True):
    """The masters at one moment."""

    began_at: float  #: monotonic
    masters: dict[str, Master]  #: by mark
    marks: dict[str, str] = {}  #: server → mark, in a cluster


class Replicas:
    """Judges WAITs; every method may be called by any thread.

    Args:
        servers: of the Redis.
        url: where.
        wait: replicas that must have a write.
    """

    def __init__(self, servers: Servers, url: RedisUrl, wait: WaitReplicas) -> None:
        self._servers = servers
        self._url = url
        self.wait = wait
        self._lock = threading.Lock()
        self._last: Look | None = None
        self._clients: dict[tuple[str, int], Any] = {}

    @property
    def last(self) -> Look | None:
        """The last look."""
        return self._last

    def close(self) -> None:
        """Close the connections that looks have made."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    # Around a write

    def tail(self, server: Server, wait_ms: int) -> list[Command]:
        """Return what is sent behind a write: WAIT, and the question for the server's mark.

        Raises:
            StoreError: all replicas are to be waited for, and nobody tells how many those are.
        """
        if not self.wait:
            return []
        name = ("CLUSTER", "MYID") if self._url.kind == "cluster" else ("INFO", "replication")
        return [("WAIT", self._needed(server), wait_ms), name]

    def _needed(self, server: Server) -> int:
        if self.wait != "all":
            return self.wait
        look = self._last
        if look is None or not _is_fresh(look):
            try:
                look = self.look()
            except StoreError:
                if look is None:
                    raise
        master = look.masters.get(look.marks.get(server.name, ""))
        counts = [master] if master is not None else look.masters.values()
        return max([1, *(one.present for one in counts)])

    def doubt(self, needed: int, have: int, said: bytes) -> StoreError | None:
        """Return why a write that *have* replicas acknowledged does not count, or None: it does.

        Args:
            needed: as the WAIT asked for.
            have: as it was answered.
            said: what the server says of itself.
        """
        if have < needed:
            text = f"{have} of {needed} replicas have it (store.wait_replicas)"
            return StoreError(f"{self._url}: {text}")
        if self._url.kind == "single":
            return None  # nobody but an operator makes another one the master
        mark = _mark_of(said)
        look = self._last
        if look is not None and (master := look.masters.get(mark)) is not None and have >= master.known:
            return None
        if look is None or mark not in look.masters or not _is_fresh(look):
            try:
                look = self.look()
            except StoreError as exc:
                return exc
        if mark in look.masters:
            return None
        return StoreError(f"{self._url}: the server that took it is not the master any more")

    # Looking

    def look(self) -> Look:
        """Ask the others who is a master, with how many replicas.

        Raises:
            StoreError: too few answer.
        """
        with self._lock:
            try:
                look = self._look()
            except AWAY as exc:
                raise StoreError(f"{self._url}: {str(exc) or type(exc).__name__}") from exc
            self._last = look
            return look

    def _look(self) -> Look:
        began_at = time.monotonic()
        if self._url.kind == "sentinel":
            return Look(began_at, self._of_sentinels())
        if self._url.kind == "cluster":
            return Look(began_at, *self._of_cluster())
        [server] = self._servers.masters()
        facts = Redis(connection_pool=server.pool).info("replication")
        count = int(facts["connected_slaves"])
        return Look(began_at, {"": Master(count, count)}, {server.name: ""})

    def _of_sentinels(self) -> dict[str, Master]:
        service, majority = self._url.service, len(self._url.servers) // 2 + 1
        views: dict[tuple[str, int], list[dict[str, bool]]] = {}
        for host, port in self._url.servers:
            try:
                sentinel = self._client(host, port, is_sentinel=True)
                address = sentinel.sentinel_get_master_addr_by_name(service)
                listed = sentinel.sentinel_slaves(service)
            except AWAY:
                continue
            agreed = views.setdefault(address, [])
            agreed.append({f"{one['ip']}:{one['port']}": bool(one["is_sdown"]) for one in listed})
            if len(agreed) == majority:
                break
        else:
            raise StoreError(f"{self._url}: fewer than {majority} Sentinels agree which server is the master")
        facts = self._client(*address).info("replication")
        if facts["role"] != "master":
            raise StoreError(f"{self._url}: the server that the Sentinels name is no master yet")
        return {str(facts["master_replid"]): _count(agreed)}

    def _client(self, host: str, port: int, *, is_sentinel: bool = False) -> Any:
        client = self._clients.get((host, port))
        if client is None:
            client = self._servers.client(host, port, is_sentinel=is_sentinel)
            self._clients[host, port] = client
        return client

    def _of_cluster(self) -> tuple[dict[str, Master], dict[str, str]]:
        views: list[dict[str, Any]] = []
        for server in self._servers.masters():
            with contextlib.suppress(*AWAY):
                server.check()
                views.append(Redis(connection_pool=server.pool).cluster("NODES"))
        return masters_of(views)


def masters_of(views: list[dict[str, Any]]) -> tuple[dict[str, Master], dict[str, str]]:
    """Return mark → master, and server → mark, of what masters of a cluster say of each other."""
    marks = {name: one["node_id"] for view in views for name, one in view.items()}
    size = max((sum(_is_voter(one) for one in view.values()) for view in views), default=0)
    masters: dict[str, Master] = {}
    for mark in set(marks.values()):
        told = [one for view in views for one in view.values() if one["node_id"] == mark]
        others = [one for one in told if "myself" not in one["flags"]]
        agree = sum(_is_voter(one) and "fail" not in one["flags"].split(",") for one in others)
        if any(map(_is_voter, told)) and agree >= size - (size // 2 + 1):
            masters[mark] = _count(
                [
                    {
                        name: "fail" in one["flags"].split(",")
                        for name, one in view.items()
                        if one["master_id"] == mark
                    }
                    for view in views
                ]
            )
    return masters, marks


def _is_fresh(look: Look) -> bool:
    return look.began_at > time.monotonic() - _FRESH_S


def _is_voter(one: dict[str, Any]) -> bool:
    return "master" in one["flags"].split(",") and bool(one["slots"])


def _count(views: list[dict[str, bool]]) -> Master:
    """Count the replicas of *views*, each replica → whether it is away; one is, when all say so."""
    names = set().union(*views)
    return Master(len(names), sum(not all(view.get(name, False) for view in views) for name in names))


def _mark_of(said: bytes) -> str:
    text = said.decode()
    for line in text.splitlines():
        if line.startswith("master_replid:"):
            return line.partition(":")[2].strip()
    return text.strip()


def losses(look: Look, wait: WaitReplicas) -> list[str]:
    """Return what can be lost, or does not work, with the replicas that there are."""
    counts = [master.known for master in look.masters.values()]
    most, least = max(counts, default=0), min(counts, default=0)
    if wait == "all":
        if least:
            return []
        return [
            'store.wait_replicas is "all", and a master has no replica: what it should store is answered 503'
        ]
    texts = []
    if 0 < wait < most:
        texts.append(
            f"store.wait_replicas is {wait}, and a master has {most} replicas: a failover to one that had "
            'not got a task yet loses it, though it was answered 202. Set store.wait_replicas = "all"'
        )
    if wait > least:
        texts.append(
            f"store.wait_replicas is {wait}, and a master has {least} replicas: what it should store is "
            "answered 503"
        )
    return texts
