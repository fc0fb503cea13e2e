"""What replicas a master has, and whether the server that answered a WAIT is the master still.

A WAIT says how many replicas have a write. That outlives a failover when every replica that can take the
master's place has it. When fewer were waited for, it counts only while the others call that server the
master: one that was cut off together with a replica goes on acknowledging, and all of that is lost when both
come back. The others are a majority of the Sentinels, or the masters of a cluster; a server is told by what
it calls itself (*mark*): its replication id there, its node id here.

A majority decides too which replicas are away and not waited for by ``wait_replicas = "all"``: one that only
the minority on this side cannot see may be the next master on the other side. A replica that the majority
calls away may be on this side, with the master, and acknowledge in the place of one on the other side. So as
many are waited for as are present, or connected to the master, by its own word after the WAIT.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from redis import Redis

from engine.errors import StoreError
from engine.store.redis.faults import told
from engine.store.redis.servers import AWAY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.config.redis_url import RedisUrl
    from engine.store.redis.script import Command
    from engine.store.redis.servers import Server, Servers

WaitReplicas = int | Literal["all"]
_FRESH_S: Final = 1.0  #: a look tells about a write that was answered so long after it began


class Master(msgspec.Struct, frozen=True):
    """A master, as the others see it."""

    replicas: frozenset[str]  #: by address
    away: frozenset[str] = frozenset()  #: those that a majority calls so

    @property
    def known(self) -> int:
        """How many replicas it has."""
        return len(self.replicas)

    def needed(self, connected: frozenset[str]) -> int:
        """Return how many have to acknowledge, so that each replica that is present has.

        Args:
            connected: replicas by the master's word. When none has an address that the others know, they are
                called otherwise there, and nobody can tell which is away: all are waited for.
        """
        if connected and self.replicas and not connected & self.replicas:
            return max(len(self.replicas), len(connected))
        return max(1, len((self.replicas - self.away) | connected))


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
        self._connected: dict[str, frozenset[str]] = {}  # server → its replicas, as it said last

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
        """Return what is sent behind a write: WAIT, and questions for the server's mark and its replicas.

        Raises:
            StoreError: all replicas are to be waited for, and nobody tells how many those are.
        """
        if not self.wait:
            return []
        wait: Command = ("WAIT", self._needed(server), wait_ms)
        if self._url.kind == "cluster":
            return [wait, ("CLUSTER", "MYID"), ("ROLE",)]
        return [wait, ("INFO", "replication")]

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
        masters = [master] if master is not None else look.masters.values()
        connected = self._connected.get(server.name, frozenset())
        return max([1, *(one.needed(connected) for one in masters)])

    def doubt(self, server: Server, asked: Command, answers: Sequence[Any]) -> StoreError | None:
        """Return why a write to *server* does not count, or None: it does.

        Args:
            server: that took it.
            asked: the WAIT.
            answers: to what was sent behind the write.
        """
        have: int = answers[0]
        mark, connected = _said(answers[1:])
        self._connected[server.name] = connected
        if (self.wait != "all" or self._url.kind == "single") and have < asked[1]:
            return self._too_few(have, asked[1])
        if self._url.kind == "single":
            return None  # nobody but an operator makes another one the master
        look = self._last
        master = None if look is None else look.masters.get(mark)
        if master is not None and have >= len(master.replicas | connected):
            return None
        if look is None or master is None or not _is_fresh(look):
            try:
                master = self.look().masters.get(mark)
            except StoreError as exc:
                return exc
        if master is None:
            return StoreError(f"{self._url}: the server that took it is not the master any more")
        if self.wait == "all" and have < (needed := master.needed(connected)):
            return self._too_few(have, needed)
        return None

    def _too_few(self, have: int, needed: int) -> StoreError:
        return StoreError(f"{self._url}: {have} of {needed} replicas have it (store.wait_replicas)")

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
                raise StoreError(f"{self._url}: {told(str(exc) or type(exc).__name__, self._url)}") from exc
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
        names = (f"{one['ip']}:{one['port']}" for one in _replicas_in(facts))
        return Look(began_at, {"": Master(frozenset(names))}, {server.name: ""})

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
    """Return the master of *views*, each replica → whether it is away; one is, when all say so."""
    names = frozenset[str]().union(*views)
    return Master(names, frozenset(name for name in names if all(view.get(name, False) for view in views)))


def _said(answers: Sequence[Any]) -> tuple[str, frozenset[str]]:
    """Return a server's mark, and the replicas that are connected to it, of what it says of itself."""
    if len(answers) > 1:
        mark, role = answers
        listed = role[2] if role[0] == b"master" else ()
        return mark.decode(), frozenset(f"{ip.decode()}:{port.decode()}" for ip, port, _ in listed)
    facts = dict(line.split(":", 1) for line in answers[0].decode().splitlines() if ":" in line)
    listed = [dict(pair.split("=", 1) for pair in text.split(",")) for text in _replicas_in(facts)]
    return facts["master_replid"], frozenset(f"{one['ip']}:{one['port']}" for one in listed)


def _replicas_in(facts: Mapping[str, Any]) -> list[Any]:
    """Return what ``INFO replication`` says of each replica."""
    return [facts[f"slave{number}"] for number in range(int(facts["connected_slaves"]))]


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
