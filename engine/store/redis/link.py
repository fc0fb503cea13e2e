"""The way to Redis: many commands in one go, each with its own outcome, whatever the topology.

redis-py brings the connections, the pools, the sentinels and the table of slots. What is ours is the
pipeline over them, because a commit has to know of *each* command whether it was done: with a master of a
cluster gone, the tasks of the other masters are stored all the same. One call is one write and one read
per server. What it repeats by itself is only what is known not to have run: a script that is not loaded,
a slot that has moved (MOVED, ASK, TRYAGAIN).
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from engine.errors import StoreError, StoreUnusableError
from engine.store.redis.faults import IS_CLUSTER, told
from engine.store.redis.replicas import Replicas
from engine.store.redis.script import with_source
from engine.store.redis.servers import AWAY, Server, Servers, is_late
from engine.store.redis.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.config.redis_url import RedisUrl
    from engine.store.redis.replicas import WaitReplicas
    from engine.store.redis.script import Command

_ROUNDS_MAX: Final = 12  #: sends of one command that is sent on
_TRY_AGAIN_S: Final = 0.05
_NOT_ALLOWED: Final = (AuthenticationError, NoPermissionError)
_LATER: Final = (TryAgainError, ClusterDownError)


class Link:
    """Connections to one Redis, of any topology; every method may be called by any thread.

    Args:
        url: where.
        timeout_s: of connecting, and of each answer.
        connections_max: per server. One engine's threads need fewer; who finds none free fails like who finds
            no server.
        wait_replicas: a write counts when so many replicas have it; see `Replicas`.
    """

    def __init__(
        self, url: RedisUrl, *, timeout_s: float, connections_max: int, wait_replicas: WaitReplicas = 0
    ) -> None:
        self.url = url
        self._timeout_s = timeout_s
        self._servers = Servers(url, timeout_s=timeout_s, connections_max=connections_max)
        self.replicas = Replicas(self._servers, url, wait_replicas)
        self.broken_count = 0  #: connections that broke or could not be made; a race may lose one

    def __repr__(self) -> str:
        return f"<Link to {self.url}>"

    @property
    def has_parts(self) -> bool:
        """Whether some of the keys can be there while others are not."""
        return self.url.kind == "cluster"

    # Commands

    def run(self, commands: Sequence[Command], *, is_write: bool = False, waits: bool = True) -> list[Any]:
        """Send *commands* and return what each was answered, or the `StoreError` it came to.

        Commands for one server run in their order there; nothing holds them together otherwise.

        Args:
            commands: what is sent.
            is_write: they count when the replicas have them.
            waits: for keys that are on two servers to be on one, a second or so; all others wait with those.
        """
        outcomes: list[Any] = [None] * len(commands)
        sent = list(commands)
        unsent = list(range(len(commands)))
        asking: dict[int, tuple[str, int]] = {}
        for turn in range(_ROUNDS_MAX):
            replies = self._send_all(sent, unsent, asking, is_write=is_write)
            unanswered: list[int] = []
            asking = {}
            must_wait = False
            for index, reply in replies.items():
                outcomes[index] = reply
                if isinstance(reply, NoScriptError):
                    sent[index] = with_source(sent[index])
                elif isinstance(reply, AskError):
                    asking[index] = reply.node_addr
                elif isinstance(reply, MovedError):
                    self._servers.moved(reply)
                elif isinstance(reply, _LATER):
                    if not waits:
                        self._servers.doubt()
                        continue
                    must_wait = True
                else:
                    continue
                unanswered.append(index)
            unsent = unanswered
            if not unsent:
                break
            if must_wait:
                self._servers.doubt()
                time.sleep(_TRY_AGAIN_S * (1 + turn / 4))
        return [self._translate(reply) if isinstance(reply, Exception) else reply for reply in outcomes]

    def one(self, *command: Any, is_write: bool = False) -> Any:
        """Send one command and return its answer.

        Raises:
            StoreError: it failed.
        """
        [reply] = self.run([command], is_write=is_write)
        if isinstance(reply, StoreError):
            raise reply
        return reply

    def all(self, commands: Sequence[Command], *, is_write: bool = False) -> list[Any]:
        """Send *commands* and return their answers.

        Raises:
            StoreError: one of them failed.
        """
        replies = self.run(commands, is_write=is_write)
        for reply in replies:
            if isinstance(reply, StoreError):
                raise reply
        return replies

    def on_each_master(self, *command: Any) -> list[Any]:
        """Send a command without a key to every master; return the answers of those that are there.

        Raises:
            StoreError: none is.
        """
        try:
            servers = self._servers.masters()
        except AWAY as exc:
            raise self._translate(exc) from exc
        replies = [self._exchange({server: [command]}, is_write=False)[server][0] for server in servers]
        found = [reply for reply in replies if not isinstance(reply, Exception)]
        if not found:
            raise self._translate(replies[0])
        return found

    def time_ms(self, key: str) -> int:
        """Return UNIX milliseconds by the clock of the server that has a key: ids of streams go by that.

        Raises:
            StoreError: it does not tell.
        """
        try:
            server = self._servers.of(("TYPE", key), None)
        except AWAY as exc:
            raise self._translate(exc) from exc
        [reply] = self._exchange({server: [("TIME",)]}, is_write=False)[server]
        if isinstance(reply, Exception):
            raise self._translate(reply) from reply
        seconds, micros = reply
        return int(seconds) * 1000 + int(micros) // 1000

    def subscription(self, channels: Sequence[str]) -> Subscription:
        """Return a subscription to channels, not open yet."""
        return Subscription(self._servers, channels, timeout_s=self._timeout_s, translate=self._translate)

    def close(self) -> None:
        """Close all connections."""
        self._servers.close()
        self.replicas.close()

    def _translate(self, exc: Exception) -> StoreError:
        if isinstance(exc, StoreError):
            return exc
        text = told(str(exc) or type(exc).__name__, self.url)
        if isinstance(exc, OutOfMemoryError) or text.startswith("OOM"):
            text = "out of memory: it has reached its maxmemory and evicts nothing, so nothing new is stored"
        if isinstance(exc, MovedError) and self.url.kind != "cluster":
            text = IS_CLUSTER
        kind = StoreUnusableError if isinstance(exc, _NOT_ALLOWED) else StoreError
        error = kind(f"{self.url}: {text}")
        error.__cause__ = exc
        return error

    # One round

    def _send_all(
        self,
        commands: list[Command],
        indexes: list[int],
        asking: dict[int, tuple[str, int]],
        *,
        is_write: bool,
    ) -> dict[int, Any]:
        by_server: dict[Server, list[int]] = {}
        replies: dict[int, Any] = {}
        for index in indexes:
            try:
                server = self._servers.of(commands[index], asking.get(index))
            except (*AWAY, StoreError) as exc:
                self._servers.doubt()
                replies[index] = exc
            else:
                by_server.setdefault(server, []).append(index)
        groups: dict[Server, list[Command]] = {}
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

    def _exchange(self, groups: dict[Server, list[Command]], *, is_write: bool) -> dict[Server, list[Any]]:
        """Write to every server, then read from every one."""
        replies: dict[Server, list[Any]] = {}
        sent: list[tuple[Server, Any, list[Command]]] = []
        for server, group in groups.items():
            connection = None
            try:
                server.check()
                tail = self.replicas.tail(server, int(self._timeout_s * 500)) if is_write else []
            except (RedisConnectionError, StoreError) as exc:  # not tried, so no failure that puts it off
                replies[server] = [exc] * len(group)
                continue
            try:
                connection = server.connection()
                connection.send_packed_command(connection.pack_commands([*group, *tail]))
            except (RedisError, OSError) as exc:
                self._drop(server, connection, exc)
                replies[server] = [exc] * len(group)
            else:
                sent.append((server, connection, tail))
        for server, connection, tail in sent:
            replies[server] = self._read(server, connection, len(groups[server]), tail)
        return replies

    def _read(self, server: Server, connection: Any, count: int, tail: list[Command]) -> list[Any]:
        """Read *count* answers, and from those to *tail* whether the replicas have what was written."""
        replies: list[Any] = []
        said: list[Any] = []
        try:
            for _ in range(count):
                try:
                    replies.append(connection.read_response())
                except ResponseError as exc:
                    replies.append(exc)
                except (BusyLoadingError, MasterDownError) as exc:  # errors of the server, not of the line
                    replies.append(exc)
            said += [connection.read_response() for _ in tail]
        except (RedisError, OSError) as exc:
            self._drop(server, connection, exc)
            if tail:  # what was answered may be nowhere but on that server
                replies = [reply if isinstance(reply, Exception) else exc for reply in replies]
            return replies + [exc] * (count - len(replies))
        if tail and (doubt := self.replicas.doubt(server, tail[0], said)) is not None:
            replies = [reply if isinstance(reply, Exception) else doubt for reply in replies]
            if said[0] >= tail[0][1]:  # the way may lead to another server by now
                self._leave(server, connection)
                return replies
        if any(isinstance(reply, ReadOnlyError) for reply in replies):
            self._drop(server, connection, next(r for r in replies if isinstance(r, ReadOnlyError)))
            return replies
        server.works()
        connection.has_answered = True
        server.pool.release(connection)
        return replies

    def _drop(self, server: Server, connection: Any, exc: Exception) -> None:
        self.broken_count += 1
        is_lost = isinstance(exc, RedisConnectionError | OSError) and not is_late(exc)
        if not is_lost or not getattr(connection, "has_answered", False):
            server.fails(exc)
        self._leave(server, connection)

    def _leave(self, server: Server, connection: Any) -> None:
        self._servers.doubt()
        if connection is not None:
            with contextlib.suppress(RedisError, OSError):
                connection.disconnect()
            connection.has_answered = False
            server.pool.release(connection)
