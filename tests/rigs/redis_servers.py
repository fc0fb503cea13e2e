"""Redis as a test wants it: real servers on free loopback ports; one, one with Sentinels, or a cluster.

Each server is a process of its own in a folder of its own, and does not outlive this Python. `kill` is
``kill -9``, `pause` is SIGSTOP, and `start` after either begins on what the server wrote to its disk.

The time-outs of Sentinel and of the cluster are as short as they go (1 s): a failover takes two to four
seconds; that an old master follows the new one, with Sentinel ten more.
"""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from release.lab.caches import free_port
from tests.rigs.wall_clock import WallClock
from tests.waiting import wait_until

MASTER_NAME = "mymaster"
DOWN_AFTER_MS = 1000
FAILOVER_TIMEOUT_MS = 1500
SLOTS = 16384

_LIFELINE = 'read -r _ || kill -s KILL "$1"'  # ends a server when we are gone, however we went

T = TypeVar("T")


class Place(NamedTuple):
    """Where a server runs."""

    address: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()  #: the command that starts it there


HERE = Place()


def has_redis() -> bool:
    """Whether this machine has the server."""
    return shutil.which("redis-server") is not None


def wait_for_redis(condition: Callable[[], T], *, what: str, timeout_s: float = 45) -> T:
    """Wait for a condition; a Redis error counts as no."""
    return wait_until(condition, what=what, timeout_s=timeout_s, errors=(redis.RedisError, OSError))


class RedisServer:
    """One ``redis-server``.

    Args:
        folder: for its configuration, data and log.
        name: of its folder in there.
        fsync: ``appendfsync`` of the append-only file; ``none``: no such file.
        clock: that it goes by.
        place: where it runs.
        settings: further directives, with ``_`` for ``-``; more than one of a kind as a list.

    Attributes:
        prefix: a command that it is started under, and that keeps its process id, such as `syscalls.traced`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "redis",
        fsync: str = "everysec",
        clock: WallClock | None = None,
        place: Place = HERE,
        **settings: object,
    ) -> None:
        self.name = name
        self.prefix: Sequence[str] = place.prefix
        self.address = place.address
        self.folder = folder / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.log_path = self.folder / "redis.log"
        directives: dict[str, object] = {
            "port": self.port,
            "bind": self.address,
            "protected-mode": "no",
            "dir": str(self.folder),
            "logfile": str(self.log_path),
            "daemonize": "no",
            "save": '""',
            "appendonly": "no" if fsync == "none" else "yes",
            "appendfsync": "everysec" if fsync == "none" else fsync,
            "repl-diskless-sync-delay": 0,
            "repl-ping-replica-period": 1,
            "enable-debug-command": "local",
            **(
                {"cluster-port": free_port()} if "cluster_enabled" in settings else {}
            ),  # else its port + 10,000
            **{key.replace("_", "-"): value for key, value in settings.items()},
        }
        self._config = self.folder / "redis.conf"
        self._config.write_text(_directives(directives))
        self._options: list[str] = []
        self._env = {**os.environ, **(clock.env if clock is not None else {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<RedisServer {self.name} [port {self.port}, {'up' if self.is_up else 'down'}]>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """As the engine's ``store.url``."""
        return f"redis://{self.address}:{self.port}/0"

    @property
    def is_up(self) -> bool:
        """Whether its process runs; also when it is paused."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process; changes at each start."""
        assert self._process is not None
        return self._process.pid

    def start(self, *, wait: bool = True) -> None:
        """Start it on what its disk holds; return when it answers."""
        assert not self.is_up
        self._process = subprocess.Popen(
            [*self.prefix, "redis-server", str(self._config), *self._options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
            env=self._env,
        )
        self._lifeline = subprocess.Popen(
            ["/bin/sh", "-c", _LIFELINE, "sh", str(self._process.pid)],
            stdin=subprocess.PIPE,
            process_group=0,
        )
        if wait:
            wait_for_redis(self._answers, what=f"{self.name} answering")

    def stop(self) -> None:
        """Ask it to leave in order (SIGTERM): it writes all to its disk."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """``kill -9``."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP: it holds its connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Stop it in order and start it again."""
        self.stop()
        self.start()

    @contextlib.contextmanager
    def client(self) -> Iterator[redis.Redis]:
        """Give a plain client of this one server, which does not try anything twice."""
        made = redis.Redis(
            host=self.address,
            port=self.port,
            decode_responses=True,
            encoding_errors="backslashreplace",
            socket_timeout=5,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            yield made
        finally:
            made.close()

    def ask(self, *words: str | int | bytes) -> Any:
        """Send one command and return its answer."""
        with self.client() as client:
            return _execute(client, *words)

    def info(self, section: str) -> dict[str, Any]:
        """Return a section of INFO."""
        return dict(self.ask("INFO", section))

    def set(self, name: str, value: str | int) -> None:
        """``CONFIG SET``, such as ``maxmemory``."""
        self.ask("CONFIG", "SET", name, value)

    def flush(self) -> None:
        """Empty it."""
        self.ask("FLUSHALL")

    def log(self) -> str:
        """Return what it logged."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def _answers(self) -> bool:
        assert self._process is not None
        code = self._process.poll()
        assert code is None, f"{self.name} ended with {code}:\n{self.log()[-2000:]}"
        return bool(self.ask("PING"))  # while it loads its file it answers an error

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        if number != signal.SIGKILL:
            self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(number)
        try:
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
            self._process = None
            if self._lifeline is not None:
                with contextlib.suppress(BrokenPipeError):
                    self._lifeline.communicate(b"\n")
                self._lifeline = None


class SentinelGroup:
    """A master, two replicas and three Sentinels; *places*: of the servers, then of the Sentinels."""

    def __init__(
        self,
        folder: Path,
        *,
        fsync: str = "everysec",
        places: Sequence[Place] = (HERE,) * 6,
        **settings: Any,
    ) -> None:
        self.servers = [
            RedisServer(folder, name=f"redis-{number}", fsync=fsync, place=places[number], **settings)
            for number in range(3)
        ]
        self.sentinels = [
            Sentinel(folder, name=f"sentinel-{number}", master=self.servers[0], place=places[3 + number])
            for number in range(3)
        ]

    def __repr__(self) -> str:
        return f"<SentinelGroup {self.url}>"

    @property
    def url(self) -> str:
        """As the engine's ``store.url``."""
        hosts = ",".join(f"{sentinel.address}:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{MASTER_NAME}/0"

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for server in self.servers:
                stack.enter_context(server)
            master, *replicas = self.servers
            for replica in replicas:
                replica.ask("REPLICAOF", master.address, master.port)
            for replica in replicas:
                _wait_for_link(replica)
            for sentinel in self.sentinels:
                stack.enter_context(sentinel)
            for sentinel in self.sentinels:
                wait_for_redis(sentinel.knows_all, what=f"{sentinel.name} knowing the others")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def master(self) -> RedisServer:
        """Return the one that most Sentinels call the master, alive or not."""
        named = [sentinel.master_address() for sentinel in self.sentinels if sentinel.is_up]
        found = max(set(named), key=named.count)
        return next(server for server in self.servers if (server.address, server.port) == found)

    def wait_for_failover(self, old: RedisServer, *, timeout_s: float = 30) -> RedisServer:
        """Wait until another server than *old* is the master and takes writes; return it."""

        def is_over() -> RedisServer | None:
            now = self.master()
            return now if now is not old and now.info("replication")["role"] == "master" else None

        found = wait_for_redis(is_over, what="the failover", timeout_s=timeout_s)
        assert found is not None
        return found

    def flush(self) -> None:
        """Empty all."""
        self.master().flush()


class Sentinel(RedisServer):
    """One Sentinel."""

    def __init__(self, folder: Path, *, name: str, master: RedisServer, place: Place = HERE) -> None:
        super().__init__(folder, name=name, place=place)
        monitor = f"{MASTER_NAME} {master.address} {master.port} 2"
        self._config.write_text(
            _directives(
                {
                    "port": self.port,
                    "bind": self.address,
                    "protected-mode": "no",
                    "dir": str(self.folder),
                    "logfile": str(self.log_path),
                    "sentinel": [
                        f"monitor {monitor}",
                        f"down-after-milliseconds {MASTER_NAME} {DOWN_AFTER_MS}",
                        f"failover-timeout {MASTER_NAME} {FAILOVER_TIMEOUT_MS}",
                    ],
                }
            )
        )
        self._options = ["--sentinel"]

    def master_address(self) -> tuple[str, int]:
        """Return where it says the master listens."""
        address, port = self.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME)
        return str(address), int(port)

    def sees_all_up(self) -> bool:
        """Whether it calls neither the master nor a replica down."""
        listed = [self.ask("SENTINEL", "MASTER", MASTER_NAME)]
        listed += self.ask("SENTINEL", "REPLICAS", MASTER_NAME)
        return len(listed) == 3 and not any("down" in one["flags"] for one in listed)

    def knows_all(self) -> bool:
        """Whether it has found the replicas and the other Sentinels."""
        fields = self.ask("SENTINEL", "MASTER", MASTER_NAME)
        return int(fields["num-slaves"]) == 2 and int(fields["num-other-sentinels"]) == 2


class RedisCluster:
    """Three masters with a third of the slots each, and a replica of each."""

    def __init__(
        self,
        folder: Path,
        *,
        fsync: str = "everysec",
        places: Sequence[Place] = (HERE,) * 6,
        **settings: Any,
    ) -> None:
        self.servers = [
            RedisServer(
                folder,
                name=f"redis-{number}",
                fsync=fsync,
                cluster_enabled="yes",
                cluster_config_file="nodes.conf",
                cluster_node_timeout=DOWN_AFTER_MS,
                cluster_replica_validity_factor=0,
                place=places[number],
                **settings,
            )
            for number in range(6)
        ]

    def __repr__(self) -> str:
        return f"<RedisCluster {self.url}>"

    @property
    def url(self) -> str:
        """As the engine's ``store.url``; names two of the servers, the others are found."""
        return "redis+cluster://" + ",".join(f"{server.address}:{server.port}" for server in self.servers[:2])

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for server in self.servers:
                stack.enter_context(server)
            masters, replicas = self.servers[:3], self.servers[3:]
            bounds = [SLOTS * part // 3 for part in range(4)]
            for master, (low, high) in zip(masters, itertools.pairwise(bounds), strict=True):
                master.ask("CLUSTER", "ADDSLOTSRANGE", low, high - 1)
            for epoch, server in enumerate(self.servers, start=1):
                server.ask("CLUSTER", "SET-CONFIG-EPOCH", epoch)
            first = self.servers[0]
            bus = {
                server: int(server.ask("CONFIG", "GET", "cluster-port")["cluster-port"])
                for server in self.servers
            }
            for server in self.servers[1:]:
                first.ask("CLUSTER", "MEET", server.address, server.port, bus[server])
            for server in self.servers:
                self._wait_until_met(server)
            for replica, master in zip(replicas, masters, strict=True):
                replica.ask("CLUSTER", "REPLICATE", self.id_of(master))
            with ThreadPoolExecutor(len(self.servers)) as threads:
                list(threads.map(self._wait_until_whole, self.servers))
                list(threads.map(_wait_for_link, replicas))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def id_of(self, server: RedisServer) -> str:
        """Return a server's id in the cluster."""
        return str(server.ask("CLUSTER", "MYID"))

    def masters(self) -> list[RedisServer]:
        """Return the servers that are up and are masters."""
        return [
            server
            for server in self.servers
            if server.is_up and server.info("replication")["role"] == "master"
        ]

    def slot_of(self, key: str) -> int:
        """Return the slot of a key."""
        return int(self._any().ask("CLUSTER", "KEYSLOT", key))

    def owner(self, slot: int) -> RedisServer:
        """Return the master that has *slot*."""
        for low, high, (address, port, *_), *_ in self._slots():
            if low <= slot <= high:
                found = (address, port)
                return next(server for server in self.servers if (server.address, server.port) == found)
        raise AssertionError(f"nobody has slot {slot}")

    def wait_for_failover(self, old: RedisServer, slot: int, *, timeout_s: float = 30) -> RedisServer:
        """Wait until another master than *old* has *slot* and the cluster is whole; return it."""

        def is_over() -> RedisServer | None:
            now = self.owner(slot)
            return now if now is not old and self.is_whole(self._any()) else None

        found = wait_for_redis(is_over, what="the failover", timeout_s=timeout_s)
        assert found is not None
        return found

    def begin_move(self, slot: int, to: RedisServer) -> None:
        """Make *slot* leave its master for *to*: keys that are not there any more are asked for with ASK."""
        source = self.owner(slot)
        to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(to))

    def move_keys(self, slot: int, to: RedisServer, *, limit: int = 0) -> int:
        """Move the keys of a slot that is on its way, up to *limit* of them (0: all); return how many."""
        source = self.owner(slot)
        moved = 0
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 100):
            some = keys[: limit - moved] if limit else keys
            source.ask("MIGRATE", to.address, to.port, "", 0, 5000, "KEYS", *some)
            moved += len(some)
            if limit and moved >= limit:
                break
        return moved

    def finish_move(self, slot: int, to: RedisServer) -> None:
        """Give *slot* to *to* for good: who asks its old master is told MOVED."""
        new_id = self.id_of(to)
        to.ask("CLUSTER", "SETSLOT", slot, "NODE", new_id)
        for server in self.masters():
            if server is not to:
                server.ask("CLUSTER", "SETSLOT", slot, "NODE", new_id)

    def flush(self) -> None:
        """Empty all."""
        for master in self.masters():
            master.flush()

    def _any(self) -> RedisServer:
        return next(server for server in self.servers if server.is_up)

    def _slots(self) -> list[Any]:
        return list(self._raw(self._any(), "SLOTS"))

    def _nodes(self, server: RedisServer) -> list[str]:
        lines = str(self._raw(server, "NODES")).splitlines()
        return [line for line in lines if "handshake" not in line]

    def is_whole(self, server: RedisServer) -> bool:
        """Whether a server sees all slots served."""
        text = str(self._raw(server, "INFO"))
        return "cluster_state:ok" in text and f"cluster_slots_ok:{SLOTS}" in text

    @staticmethod
    def _raw(server: RedisServer, word: str) -> Any:
        """Return the answer to ``CLUSTER word`` as the server gives it."""
        with server.client() as client:
            client.response_callbacks.clear()
            return _execute(client, "CLUSTER", word)

    def _wait_until_met(self, server: RedisServer) -> None:
        wait_for_redis(
            lambda: len(self._nodes(server)) == len(self.servers), what=f"{server.name} knowing all"
        )

    def _wait_until_whole(self, server: RedisServer) -> None:
        wait_for_redis(lambda: self.is_whole(server), what=f"{server.name} seeing the cluster whole")


def _execute(client: redis.Redis, *words: str | int | bytes) -> Any:
    return client.execute_command(*words)  # type: ignore[no-untyped-call] # redis-py's own lacks types


def _wait_for_link(replica: RedisServer) -> None:
    """Wait until a replica has all of its master's data."""
    wait_for_redis(
        lambda: replica.info("replication").get("master_link_status") == "up",
        what=f"{replica.name} being in step",
    )


def _directives(values: dict[str, object]) -> str:
    lines = [
        f"{name} {one}"
        for name, value in values.items()
        for one in (value if isinstance(value, list) else [value])
    ]
    return "\n".join(lines) + "\n"
