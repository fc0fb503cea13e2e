"""The servers of one Redis: which one has a key, their connections, and when one may be tried again.

redis-py brings the connections, the pools, the sentinels and the table of slots.

A connection that has answered and breaks says nothing of a new one, which is made at once. A server that
takes none, or that lets a time-out pass, is left alone for a moment that doubles up to `_PAUSE_MAX_S`, with
jitter; meanwhile everything that needs it fails at once. So a client is not kept waiting for a time-out that
a thread has just seen, and a server that comes back is not met by a storm. One of a cluster that lets
time-outs pass again and again is left alone for twice as long as those: the others' commands wait for them,
too.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from redis import BlockingConnectionPool, Redis, RedisCluster, Sentinel, SSLConnection
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.crc import key_slot
from redis.exceptions import AuthenticationError, MovedError, RedisClusterException, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError

from engine.base.backoff import backoff_s
from engine.errors import StoreError
from engine.store.redis.faults import says_nothing, seen

if TYPE_CHECKING:
    from engine.config.redis_url import RedisUrl
    from engine.store.redis.script import Command

AWAY: Final = (RedisError, RedisClusterException, OSError)  #: the second is no kind of the first
_PAUSE_S: Final = 0.05
_PAUSE_MAX_S: Final = 1.0
_REFRESH_S: Final = 0.5
_ASK_S: Final = 1.0
_LOOK_EVERY_S: Final = 10.0  #: why a server takes no connection
_NO_NODE: Final = "Redis Cluster cannot be connected. Please provide at least one reachable node: "
_KEY_AT: Final = {"EVALSHA": 3, "EVAL": 3, "XINFO": 2, "XGROUP": 2}
"""Of a command, where its first key stands; 1 in others, of XREADGROUP behind STREAMS."""


def is_late(exc: Exception) -> bool:
    """Tell whether a time-out has passed."""
    return isinstance(exc, TimeoutError | RedisTimeoutError)


class Server:
    """One server's connections, and when it may be tried again.

    Args:
        pool: of connections.
        name: of the server.
        url: that leads to it.
        rest_s: it is left alone for so long when time-outs pass again.
    """

    def __init__(self, pool: Any, name: str, url: RedisUrl, *, rest_s: float = 0.0) -> None:
        self._rest_s = rest_s
        self._url = url
        self._seen = ("", -_LOOK_EVERY_S)  # why it takes no connection, and when that was looked at
        self.pool = pool
        self.name = name
        self._failures = 0
        self._not_before = 0.0
        self._error = ""
        self._kind: type[RedisConnectionError] = RedisConnectionError

    def connection(self) -> Any:
        """Return a connection of its pool.

        Raises:
            RedisError, OSError: there is none; with what a look shows where the server does not say why.
        """
        try:
            return self.pool.get_connection()
        except (RedisError, OSError) as exc:
            if why := self._why(exc):
                raise RedisConnectionError(why) from exc
            raise

    def _why(self, exc: Exception) -> str:
        """Return what a look at it shows, which is taken once in a while."""
        if not says_nothing(exc, self._url):
            return ""
        why, looked_at = self._seen
        if time.monotonic() - looked_at >= _LOOK_EVERY_S:
            self._seen = (why, time.monotonic())  # who comes meanwhile does not look, too
            looks = (seen(host, port, self._url) for host, port in self._places(exc))
            why = next(filter(None, looks), "")
            self._seen = (why, time.monotonic())
        return why

    def _places(self, exc: Exception) -> list[tuple[str, int]]:
        """Return which servers *exc* may be about: the Sentinels when none names a master."""
        if isinstance(exc, MasterNotFoundError):
            return self._url.servers
        if self._url.kind == "sentinel":
            return [self.pool.get_master_address()]
        kept = self.pool.connection_kwargs
        return [(kept["host"], int(kept["port"]))]

    def check(self) -> None:
        """Raise what it failed with when that has only just been."""
        if time.monotonic() < self._not_before:
            raise self._kind(self._error)

    def works(self) -> None:
        """Something was answered."""
        self._failures = 0
        self._seen = ("", -_LOOK_EVERY_S)

    def fails(self, exc: Exception) -> None:
        """It cannot be reached, or answered too late."""
        pause_s = backoff_s(self._failures, first_s=_PAUSE_S, max_s=_PAUSE_MAX_S)
        if self._failures and is_late(exc):
            pause_s = max(pause_s, self._rest_s)
        self._failures += 1
        self._not_before = time.monotonic() + pause_s
        self._error = str(exc) or type(exc).__name__
        self._kind = AuthenticationError if isinstance(exc, AuthenticationError) else RedisConnectionError


class Servers:
    """The servers of one Redis, of any topology; every method may be called by any thread.

    Args:
        url: where.
        timeout_s: of connecting, and of each answer.
        connections_max: per server.
    """

    def __init__(self, url: RedisUrl, *, timeout_s: float, connections_max: int) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._connections_max = connections_max
        self._lock = threading.Lock()
        self._single: Server | None = None
        self._cluster: RedisCluster | None = None
        self._servers: dict[str, Server] = {}
        self._refreshed_at = 0.0
        self._is_stale = False
        self._is_closed = False
        self._error = ""  # why the cluster's table could not be read

    def doubt(self) -> None:
        """Have the cluster's table of slots read again before the next command."""
        self._is_stale = True

    def close(self) -> None:
        """Close all connections."""
        self._is_closed = True
        with contextlib.suppress(RedisError, OSError):
            if self._single is not None:
                self._single.pool.disconnect()
            if self._cluster is not None:
                self._cluster.close()

    def of(self, command: Command, asked: tuple[str, int] | None) -> Server:
        """Return the server for a command; *asked*: where the cluster has said that it is to be asked.

        Raises:
            StoreError: the link is closed.
            RedisError, RedisClusterException, OSError: no server tells where it is.
        """
        if self._is_closed:
            raise StoreError(f"{self._url}: the store is closed")
        if self._url.kind != "cluster":
            return self._one()
        cluster = self._table()
        if asked is not None:
            node = cluster.get_node(host=asked[0], port=asked[1])
            if node is None:
                self._is_stale = True
                raise RedisConnectionError(f"{asked[0]}:{asked[1]} is not known in the cluster yet")
        else:
            is_read = command[0] == "XREADGROUP"
            key = command[command.index("STREAMS") + 1 if is_read else _KEY_AT.get(command[0], 1)]
            slot = key_slot(key if isinstance(key, bytes) else str(key).encode())
            node = cluster.nodes_manager.get_node_from_slot(slot)
        return self._of_node(cluster, node)

    def masters(self) -> list[Server]:
        """Return every master; raises like `of`."""
        if self._url.kind != "cluster":
            return [self._one()]
        cluster = self._table()
        return [self._of_node(cluster, node) for node in cluster.get_primaries()]

    def client(self, host: str, port: int, *, is_sentinel: bool = False) -> Redis:
        """Return a client of its own for one server; its time-out is short: others can be asked."""
        options = self._options()
        options["socket_timeout"] = options["socket_connect_timeout"] = min(self._timeout_s, _ASK_S)
        if is_sentinel:
            options["username"] = options["password"] = None
        return Redis(host=host, port=port, decode_responses=True, **options)

    def moved(self, error: MovedError) -> None:
        """Note that a slot is on another server than was thought."""
        if self._cluster is not None:
            with contextlib.suppress(*AWAY):
                self._cluster.nodes_manager.move_slot(error)

    def _of_node(self, cluster: RedisCluster, node: Any) -> Server:
        pool = cluster.get_redis_connection(node).connection_pool
        server = self._servers.get(node.name)
        if server is None or server.pool is not pool:
            server = self._servers[node.name] = Server(pool, node.name, self._url, rest_s=2 * self._timeout_s)
        return server

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "socket_timeout": self._timeout_s,
            "socket_connect_timeout": self._timeout_s,
            "username": self._url.username,
            "password": self._url.password,
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "health_check_interval": 0,
        }
        return options

    def _one(self) -> Server:
        with self._lock:
            if self._single is not None:
                return self._single
            if self._url.kind == "sentinel":
                watch = {**self._options(), "username": None, "password": None}
                sentinel = Sentinel(self._url.servers, sentinel_kwargs=watch, **self._options())
                pool = sentinel.master_for(self._url.service, db=self._url.database).connection_pool
            else:
                host, port = self._url.servers[0]
                tls = {"connection_class": SSLConnection} if self._url.has_tls else {}
                pool = BlockingConnectionPool(
                    max_connections=self._connections_max,
                    timeout=self._timeout_s,
                    host=host,
                    port=port,
                    db=self._url.database,
                    **tls,
                    **self._options(),
                )
            self._single = Server(pool, str(self._url), self._url)
            return self._single

    def _table(self) -> RedisCluster:
        """Return the cluster's table of slots, read again when something went wrong with it."""
        with self._lock:
            now = time.monotonic()
            if self._cluster is None:
                if now - self._refreshed_at < _REFRESH_S and self._refreshed_at:
                    raise RedisConnectionError(self._error or "no server of it answered a moment ago")
                self._refreshed_at = now
                try:
                    self._cluster = RedisCluster(
                        startup_nodes=[ClusterNode(host, port) for host, port in self._url.servers],
                        require_full_coverage=False,
                        max_connections=self._connections_max,
                        **self._options(),
                    )
                except AWAY as exc:
                    self._error = self._why_none(exc)
                    raise RedisConnectionError(self._error) from exc
                self._is_stale = False
            elif self._is_stale and now - self._refreshed_at > _REFRESH_S:
                self._refreshed_at = now
                self._is_stale = False
                try:
                    self._cluster.nodes_manager.initialize()
                except AWAY:  # the old table is better than none
                    self._is_stale = True
            return self._cluster

    def _why_none(self, exc: Exception) -> str:
        """Return why no server of the cluster answered: what looks show, or what the last one said."""
        if says_nothing(exc, self._url):
            shown = (seen(host, port, self._url) for host, port in self._url.servers)
            if why := next(filter(None, shown), ""):
                return why
        return str(exc).removeprefix(_NO_NODE) or type(exc).__name__
