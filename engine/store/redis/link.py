"""The way to Redis: many commands in one go, each with its own outcome, whatever the topology.

redis-py brings the connections, the pools, the sentinels and the table of slots. What is ours is the
pipeline over them, because a commit has to know of *each* command whether it was done: with a master of a
cluster gone, the tasks of the other masters are stored all the same. One call is one write and one read
per server. What it repeats by itself is only what is known not to have run: a script that is not loaded,
a slot that has moved (MOVED, ASK, TRYAGAIN).

A server that cannot be reached is left alone for a moment that doubles up to `_PAUSE_MAX_S`, with jitter;
meanwhile everything that needs it fails at once. So a client is not kept waiting for a time-out that a
thread has just seen, and a server that comes back is not met by a storm.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from redis import BlockingConnectionPool, RedisCluster, Sentinel, SSLConnection
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.retry import Retry

from engine.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from engine.config.redis_url import RedisUrl

Command = tuple[Any, ...]
_Asking = dict[int, tuple[str, int]]

_ROUNDS_MAX: Final = 12  #: sends of one command that is sent on
_TRY_AGAIN_S: Final = 0.05
_PAUSE_S: Final = 0.05
_PAUSE_MAX_S: Final = 1.0
_REFRESH_S: Final = 0.5
_KEY_AT: Final = {"EVALSHA": 3, "EVAL": 3, "XINFO": 2, "XGROUP": 2}
_AWAY: Final = (RedisError, RedisClusterException, OSError)  #: the second is no kind of the first
_LATER: Final = (TryAgainError, ClusterDownError)


class Script:
    """A Lua script, called by its digest."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.sha = hashlib.sha1(source.encode()).hexdigest()  # noqa: S324 - Redis's name for it
        _sources[self.sha] = source

    def call(self, keys: Sequence[str], arguments: Iterable[Any]) -> Command:
        """Return the command that runs it."""
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)


_sources: dict[str, str] = {}


class _Server:
    """One server's connections, and when it may be tried again."""

    def __init__(self, pool: Any, name: str) -> None:
        self.pool = pool
        self.name = name
        self._failures = 0
        self._not_before = 0.0
        self._error = ""

    def check(self) -> None:
        """Raise what it failed with when that has only just been."""
        if time.monotonic() < self._not_before:
            raise RedisConnectionError(self._error)

    def works(self) -> None:
        """Something was answered."""
        self._failures = 0

    def fails(self, exc: Exception) -> None:
        """It cannot be reached, or answered too late."""
        pause_s = min(_PAUSE_MAX_S, _PAUSE_S * 2 ** min(self._failures, 10))
        self._failures += 1
        self._not_before = time.monotonic() + pause_s * random.uniform(0.5, 1)  # noqa: S311 - jitter
        self._error = str(exc) or type(exc).__name__


class Link:
    """Connections to one Redis, of any topology; every method may be called by any thread.

    Args:
        url: where.
        timeout_s: of connecting, and of each answer.
        connections_max: per server. One engine's threads need fewer; who finds none free fails like who finds
            no server.
        wait_replicas: a write counts when so many replicas have it.
    """

    def __init__(
        self, url: RedisUrl, *, timeout_s: float, connections_max: int, wait_replicas: int = 0
    ) -> None:
        self.url = url
        self._timeout_s = timeout_s
        self._connections_max = connections_max
        self._wait_replicas = wait_replicas
        self._lock = threading.Lock()
        self._single: _Server | None = None
        self._cluster: RedisCluster | None = None
        self._servers: dict[str, _Server] = {}
        self._refreshed_at = 0.0
        self._is_stale = False
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Link to {self.url}>"

    # Commands

    def run(self, commands: Sequence[Command], *, is_write: bool = False) -> list[Any]:
        """Send *commands* and return what each was answered, or the `StoreError` it came to.

        Commands for one server run in their order there; nothing holds them together otherwise.
        """
        found: list[Any] = [None] * len(commands)
        sent = list(commands)
        left = list(range(len(commands)))
        asking: dict[int, tuple[str, int]] = {}
        for turn in range(_ROUNDS_MAX):
            replies = self._send_all(sent, left, asking, is_write=is_write)
            again: list[int] = []
            asking = {}
            must_wait = False
            for index, reply in replies.items():
                found[index] = reply
                if isinstance(reply, NoScriptError):
                    sent[index] = ("EVAL", _sources[sent[index][1]], *sent[index][2:])
                elif isinstance(reply, AskError):
                    asking[index] = reply.node_addr
                elif isinstance(reply, MovedError):
                    self._moved(reply)
                elif isinstance(reply, _LATER):
                    must_wait = True
                else:
                    continue
                again.append(index)
            left = again
            if not left:
                break
            if must_wait:
                self._is_stale = True
                time.sleep(_TRY_AGAIN_S * (1 + turn / 4))
        return [self._translate(reply) if isinstance(reply, Exception) else reply for reply in found]

    def one(self, *command: Any, is_write: bool = False) -> Any:
        """Send one command and return its answer.

        Raises:
            StoreError: it failed.
        """
        [found] = self.run([command], is_write=is_write)
        if isinstance(found, StoreError):
            raise found
        return found

    def all(self, commands: Sequence[Command], *, is_write: bool = False) -> list[Any]:
        """Send *commands* and return their answers.

        Raises:
            StoreError: one of them failed.
        """
        found = self.run(commands, is_write=is_write)
        for reply in found:
            if isinstance(reply, StoreError):
                raise reply
        return found

    def on_each_master(self, *command: Any) -> list[Any]:
        """Send a command without a key to every master; return the answers.

        Raises:
            StoreError: one of them failed.
        """
        try:
            servers = self._masters()
        except _AWAY as exc:
            raise self._translate(exc) from exc
        found = []
        for server in servers:
            [reply] = self._exchange({server: [command]}, is_write=False)[server]
            if isinstance(reply, Exception):
                raise self._translate(reply)
            found.append(reply)
        return found

    def close(self) -> None:
        """Close all connections."""
        self._is_closed = True
        with contextlib.suppress(RedisError, OSError):
            if self._single is not None:
                self._single.pool.disconnect()
            if self._cluster is not None:
                self._cluster.close()

    def _translate(self, exc: Exception) -> StoreError:
        if isinstance(exc, StoreError):
            return exc
        text = str(exc) or type(exc).__name__
        if isinstance(exc, OutOfMemoryError) or text.startswith("OOM"):
            text = "out of memory: it has reached its maxmemory and evicts nothing, so nothing new is stored"
        made = StoreError(f"{self.url}: {text}")
        made.__cause__ = exc
        return made

    # One round

    def _send_all(
        self,
        commands: list[Command],
        indexes: list[int],
        asking: dict[int, tuple[str, int]],
        *,
        is_write: bool,
    ) -> dict[int, Any]:
        by_server: dict[_Server, list[int]] = {}
        replies: dict[int, Any] = {}
        for index in indexes:
            try:
                server = self._server_of(commands[index], asking.get(index))
            except (*_AWAY, StoreError) as exc:
                self._is_stale = True
                replies[index] = exc
            else:
                by_server.setdefault(server, []).append(index)
        groups: dict[_Server, list[Command]] = {}
        for server, places in by_server.items():
            group = groups[server] = []
            for index in places:
                if index in asking:
                    group.append(("ASKING",))
                group.append(commands[index])
        for server, answers in self._exchange(groups, is_write=is_write).items():
            places = by_server[server]
            given = iter(answers)
            for index in places:
                if index in asking:
                    next(given)
                replies[index] = next(given)
        return replies

    def _exchange(self, groups: dict[_Server, list[Command]], *, is_write: bool) -> dict[_Server, list[Any]]:
        """Write to every server, then read from every one."""
        found: dict[_Server, list[Any]] = {}
        open_ones: list[tuple[_Server, Any]] = []
        for server, group in groups.items():
            connection = None
            try:
                server.check()
            except RedisConnectionError as exc:  # not tried, so not one more failure that puts it off further
                found[server] = [exc] * len(group)
                continue
            try:
                connection = server.pool.get_connection()
                wait = self._wait(group) if is_write else []
                connection.send_packed_command(connection.pack_commands([*group, *wait]))
            except (RedisError, OSError) as exc:
                self._drop(server, connection, exc)
                found[server] = [exc] * len(group)
            else:
                open_ones.append((server, connection))
        for server, connection in open_ones:
            found[server] = self._read(server, connection, len(groups[server]), is_write=is_write)
        return found

    def _wait(self, group: list[Command]) -> list[Command]:
        if not self._wait_replicas or not group:
            return []
        return [("WAIT", self._wait_replicas, int(self._timeout_s * 500))]

    def _read(self, server: _Server, connection: Any, count: int, *, is_write: bool) -> list[Any]:
        replies: list[Any] = []
        try:
            for _ in range(count):
                try:
                    replies.append(connection.read_response())
                except ResponseError as exc:
                    replies.append(exc)
                except (BusyLoadingError, MasterDownError) as exc:  # errors of the server, not of the line
                    replies.append(exc)
            if is_write and self._wait_replicas:
                have = connection.read_response()
                if have < self._wait_replicas:
                    short = StoreError(
                        f"{self.url}: {have} of {self._wait_replicas} replicas have it (store.wait_replicas)"
                    )
                    replies = [reply if isinstance(reply, Exception) else short for reply in replies]
        except (RedisError, OSError) as exc:
            self._drop(server, connection, exc)
            return replies + [exc] * (count - len(replies))
        if any(isinstance(reply, ReadOnlyError) for reply in replies):
            self._drop(server, connection, next(r for r in replies if isinstance(r, ReadOnlyError)))
            return replies
        server.works()
        server.pool.release(connection)
        return replies

    def _drop(self, server: _Server, connection: Any, exc: Exception) -> None:
        server.fails(exc)
        self._is_stale = True
        if connection is not None:
            with contextlib.suppress(RedisError, OSError):
                connection.disconnect()
            server.pool.release(connection)

    # Servers

    def _server_of(self, command: Command, asked: tuple[str, int] | None) -> _Server:
        if self._is_closed:
            raise StoreError(f"{self.url}: the store is closed")
        if self.url.kind != "cluster":
            return self._one()
        cluster = self._table()
        if asked is not None:
            node = cluster.get_node(host=asked[0], port=asked[1])
            if node is None:
                self._is_stale = True
                raise RedisConnectionError(f"{asked[0]}:{asked[1]} is not known in the cluster yet")
        else:
            key = command[_KEY_AT.get(command[0], 1)]
            slot = key_slot(key if isinstance(key, bytes) else str(key).encode())
            node = cluster.nodes_manager.get_node_from_slot(slot)
        return self._of_node(cluster, node)

    def _of_node(self, cluster: RedisCluster, node: Any) -> _Server:
        pool = cluster.get_redis_connection(node).connection_pool
        server = self._servers.get(node.name)
        if server is None or server.pool is not pool:
            server = self._servers[node.name] = _Server(pool, node.name)
        return server

    def _masters(self) -> list[_Server]:
        if self.url.kind != "cluster":
            return [self._one()]
        cluster = self._table()
        return [self._of_node(cluster, node) for node in cluster.get_primaries()]

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "socket_timeout": self._timeout_s,
            "socket_connect_timeout": self._timeout_s,
            "username": self.url.username,
            "password": self.url.password,
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "health_check_interval": 0,
        }
        return options

    def _one(self) -> _Server:
        with self._lock:
            if self._single is not None:
                return self._single
            if self.url.kind == "sentinel":
                watch = {**self._options(), "username": None, "password": None}
                sentinel = Sentinel(self.url.servers, sentinel_kwargs=watch, **self._options())
                pool = sentinel.master_for(self.url.service, db=self.url.database).connection_pool
            else:
                host, port = self.url.servers[0]
                tls = {"connection_class": SSLConnection} if self.url.has_tls else {}
                pool = BlockingConnectionPool(
                    max_connections=self._connections_max,
                    timeout=self._timeout_s,
                    host=host,
                    port=port,
                    db=self.url.database,
                    **tls,
                    **self._options(),
                )
            self._single = _Server(pool, str(self.url))
            return self._single

    def _table(self) -> RedisCluster:
        """Return the cluster's table of slots, read again when something went wrong with it."""
        with self._lock:
            now = time.monotonic()
            if self._cluster is None:
                if now - self._refreshed_at < _REFRESH_S and self._refreshed_at:
                    raise RedisConnectionError("no server of the cluster answered a moment ago")
                self._refreshed_at = now
                try:
                    self._cluster = RedisCluster(
                        startup_nodes=[ClusterNode(host, port) for host, port in self.url.servers],
                        require_full_coverage=False,
                        max_connections=self._connections_max,
                        **self._options(),
                    )
                except RedisClusterException as exc:
                    raise RedisConnectionError(str(exc)) from exc
                self._is_stale = False
            elif self._is_stale and now - self._refreshed_at > _REFRESH_S:
                self._refreshed_at = now
                self._is_stale = False
                try:
                    self._cluster.nodes_manager.initialize()
                except _AWAY:  # the old table is better than none
                    self._is_stale = True
            return self._cluster

    def _moved(self, error: MovedError) -> None:
        if self._cluster is not None:
            with contextlib.suppress(*_AWAY):
                self._cluster.nodes_manager.move_slot(error)
