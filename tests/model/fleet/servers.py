"""The Redis of a fleet: what can happen to its servers, whatever the topology. Blocking."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from redis import RedisError

from tests.rigs.redis_servers import SLOTS, RedisCluster, RedisServer, SentinelGroup, wait_for_redis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from tests.model.fleet.network import Network
    from tests.model.fleet.timetable import Event

COUNTS: Final = {"single": 1, "sentinel": 6, "cluster": 6}  #: of servers, the Sentinels among them
_WHOLE_LIMIT_S: Final = 90.0
_LAG_S: Final = 0.4  #: until a master whose replica lags is killed


@dataclass
class _Move:
    """A slot on the move: who gets it, and the master that has nothing to do with it."""

    slot: int
    to: RedisServer
    other: RedisServer


class Servers:
    """The servers of one round.

    Args:
        topology: ``single``, ``sentinel`` or ``cluster``.
        folder: of their configurations, data and logs.
        network: they are hosts of it, with their own names.
    """

    def __init__(self, topology: str, folder: Path, network: Network) -> None:
        self.topology = topology
        self._network = network
        count = COUNTS[topology]
        self.names = [f"{topology}-{number}" for number in range(count)]
        places = [network.place(name) for name in self.names]
        self._group: RedisServer | SentinelGroup | RedisCluster
        if topology == "single":
            self._group = RedisServer(folder, place=places[0])
        elif topology == "sentinel":
            self._group = SentinelGroup(folder, places=places)
        else:
            self._group = RedisCluster(folder, places=places, cluster_require_full_coverage="no")
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self._group)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """As the engine's ``store.url``."""
        return self._group.url

    @property
    def _servers(self) -> list[RedisServer]:
        return [self._group] if isinstance(self._group, RedisServer) else self._group.servers

    def _name(self, server: RedisServer) -> str:
        return self._network.name_of(server.address)

    # Whole

    def wait_until_whole(self) -> None:
        """Wait until every server is up and in step with its master."""
        wait_for_redis(self._is_whole, what=f"{self._group} being whole", timeout_s=_WHOLE_LIMIT_S)

    def _is_whole(self) -> bool:
        group = self._group
        if isinstance(group, RedisServer):
            return bool(group.ask("PING"))
        facts = [server.info("replication") for server in group.servers]
        masters = [one for one in facts if one["role"] == "master"]
        count = 1 if isinstance(group, SentinelGroup) else 3
        in_step = all(one["role"] == "master" or one["master_link_status"] == "up" for one in facts)
        replicas = sum(
            one[f"slave{number}"]["state"] == "online"  # until then nothing is streamed to it
            for one in masters
            for number in range(int(one["connected_slaves"]))
        )
        if len(masters) != count or not in_step or replicas != len(facts) - count:
            return False
        if isinstance(group, RedisCluster):
            return all(group.is_whole(server) for server in group.servers)
        return all(sentinel.sees_all_up() for sentinel in group.sentinels)

    # Whom something happens to

    def _masters(self) -> list[RedisServer]:
        if isinstance(self._group, RedisServer):
            return [self._group]
        return [self._group.master()] if isinstance(self._group, SentinelGroup) else self._group.masters()

    def _replicas_of(self, master: RedisServer) -> list[RedisServer]:
        found = []
        for server in self._servers:
            facts = server.info("replication")
            if facts["role"] == "slave" and (facts["master_host"], facts["master_port"]) == (
                master.address,
                master.port,
            ):
                found.append(server)
        return found

    # What happens

    def happen(self, event: Event, engine: str) -> None:
        """Let a fault begin and end; *engine*: one that is cut off too."""
        masters = self._masters()
        master = masters[event.who % len(masters)]
        replicas = self._replicas_of(master) if self.topology != "single" else []
        replica = replicas[event.who // 7 % len(replicas)] if replicas else master
        match event.kind:
            case "master killed" | "replica killed":
                self._away(master if event.kind == "master killed" else replica, event.lasts_s)
            case "master restarted":
                master.stop()
                time.sleep(event.lasts_s)
                master.start()
            case "master paused":
                self._paused(master, event.lasts_s)
            case "replica paused" | "replica lags":
                self._paused(replica, event.lasts_s)
            case "lag, then master killed":
                lagging = replicas if event.who // 11 % 3 else [replica]
                for one in lagging:
                    one.pause()
                try:
                    time.sleep(_LAG_S)
                    master.kill()
                finally:
                    time.sleep(event.lasts_s / 4)
                    for one in lagging:
                        one.resume()
                time.sleep(event.lasts_s)
                master.start()
            case "master cut off" | "half cut off":
                here = [self._name(master)]
                if event.kind == "half cut off":
                    here += [self._name(replica), engine]
                self._cut(here, [name for name in self.names if name not in here], event.lasts_s)
            case "sentinel killed" | "sentinel paused":
                assert isinstance(self._group, SentinelGroup)
                sentinel = self._group.sentinels[event.who % 3]
                (self._away if event.kind == "sentinel killed" else self._paused)(sentinel, event.lasts_s)
            case "slot moved" | "cut off while a slot moves":
                self._move_a_slot(event, engine)

    def _away(self, server: RedisServer, seconds: float) -> None:
        server.kill()
        time.sleep(seconds)
        server.start()

    def _paused(self, server: RedisServer, seconds: float) -> None:
        server.pause()
        try:
            time.sleep(seconds)
        finally:
            server.resume()

    def _cut(self, here: list[str], there: list[str], seconds: float) -> None:
        self._network.cut(here, there)
        try:
            time.sleep(seconds)
        finally:
            self._network.mend(here, there)

    # Slots

    def _move_a_slot(self, event: Event, engine: str) -> None:
        if event.kind == "slot moved":
            with self._slot_on_the_move(event):
                time.sleep(event.lasts_s)
        elif event.who // 5 % 2:
            self._cut_off_who_gets_a_slot(event)
        else:
            self._cut_off_beside_a_slot(event, engine)

    @contextmanager
    def _slot_on_the_move(self, event: Event) -> Iterator[_Move]:
        """Have the slot of one region on two servers meanwhile, then move the rest of it."""
        group = self._group
        assert isinstance(group, RedisCluster)
        slot = group.slot_of(f"purgeline:{{region-{event.who % 16:02}}}:tasks")
        owner = group.owner(slot)
        to, other = (server for server in group.masters() if server is not owner)
        move = _Move(slot, to, other)
        group.begin_move(slot, to)
        group.move_keys(slot, to, limit=5)
        self._wait_for_replica(to)
        yield move
        group.move_keys(slot, move.to)
        group.finish_move(slot, move.to)
        self._wait_for_replica(move.to)

    @staticmethod
    def _wait_for_replica(master: RedisServer) -> None:
        """MIGRATE does not: a failover now would lose what has gone over."""
        assert master.ask("WAIT", 1, 20_000) == 1, f"{master.name} has no replica in step"

    def _cut_off_who_gets_a_slot(self, event: Event) -> None:
        """Its replica takes its place, is told of the move, which it does not know of, and gets the rest."""
        group = self._group
        assert isinstance(group, RedisCluster)
        with self._slot_on_the_move(event) as move:
            its_own = next(slot for slot in range(0, SLOTS, 64) if group.owner(slot) is move.to)
            here = self._name(move.to)
            self._cut([here], [name for name in self.names if name != here], event.lasts_s)
            self.wait_until_whole()
            if group.owner(its_own) is not move.to:
                move.to = group.owner(its_own)
                group.begin_move(move.slot, move.to)

    def _cut_off_beside_a_slot(self, event: Event, engine: str) -> None:
        """The slot has moved before a third master, its replica and an engine hear of it."""
        with ExitStack() as stack:
            with self._slot_on_the_move(event) as move:
                replicas = self._replicas_of(move.other)
                here = [self._name(server) for server in (move.other, *replicas)] + [engine]
                there = [name for name in self.names if name not in here]
                self._network.cut(here, there)
                stack.callback(self._network.mend, here, there)
                time.sleep(event.lasts_s / 2)
            time.sleep(event.lasts_s / 2)

    def try_to_tell(self) -> str:
        """Return what the servers say of themselves, for what a failure says."""
        told = []
        for server in self._servers:
            try:
                facts = server.info("replication")
            except (RedisError, OSError) as exc:
                told.append(f"{self._name(server)}: {exc!r}")
            else:
                told.append(f"{self._name(server)}: {facts['role']}, {facts.get('master_link_status', '')}")
        return "; ".join(told)
