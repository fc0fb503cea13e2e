"""``kind = "redis"``: what one worker reads of one Redis."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import msgspec
from loguru import logger

from engine.config.redis_url import parse_redis_url, without_password
from engine.doors.hosts import Hosts, every_host
from engine.doors.redis.channels import ChannelReader
from engine.doors.redis.entries import Form
from engine.doors.redis.group import Group
from engine.doors.redis.hold import KEEP_S, Hold
from engine.doors.redis.poison import Poison
from engine.doors.redis.reach import Reach
from engine.doors.redis.stream import StreamReader
from engine.doors.redis.turn import Turn
from engine.intake.auth import ANONYMOUS
from engine.intake.client import Client
from engine.saver.reader import StoreReader
from engine.store.redis.link import Link
from engine.tasks.records import By

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.config.doors import RedisDoorConfig
    from engine.config.tables import Config
    from engine.doors.submitting import Submitting
    from engine.intake.auth import Auth
    from engine.observe.counters import Stats

KIND: Final = "redis"  #: of the door, see `By.door`
_LOOKS: Final = 3  #: in the time after which entries that nobody works on go to another worker
HOLDS: Final = "purgeline:holds:"  #: keys of the Redis that begin so say who makes tasks of its channels
_BESIDE: Final = 4  #: connections and threads beside one for each stream


class Around(msgspec.Struct, frozen=True):
    """What a door of this kind takes of the engine."""

    config: Config
    auth: Auth  #: knows its token
    submitting: Submitting  #: takes what is asked for
    stats: Stats
    on_alert: Callable[[str, str, str], None]
    consumer: str  #: this worker's name in groups; no other process ever has the same
    is_shared: bool  #: engines share the store, and so hear the same messages
    hears: bool  #: whether this worker listens to channels


class RedisDoor:
    """One door of this kind; see `readers.Reader`.

    Args:
        door: its table.
        around: see there.
    """

    def __init__(self, door: RedisDoorConfig, around: Around) -> None:
        url = parse_redis_url(door.url)
        self._name = without_password(door.url)
        self._door = door
        self._around = around
        token = around.auth.named(door.token or ANONYMOUS)
        self._client = Client(token, By(token.name, url.servers[0][0], KIND))
        self._link = Link(url, timeout_s=door.timeout_s, connections_max=len(door.streams) + _BESIDE)
        self._threads = StoreReader(len(door.streams) + _BESIDE, "redis-door")
        self._poison = Poison(self._link, door.poison, door.poison_max)
        self._readers: list[StreamReader | ChannelReader] = []
        self._running: list[asyncio.Task[None]] = []
        self._is_stopping = False

    def __repr__(self) -> str:
        return f"<RedisDoor {self._name}>"

    def start(self) -> None:
        """Begin to read."""
        if self._is_stopping:
            return
        self._readers = [self._stream(name) for name in self._door.streams]
        if self._door.channels and self._around.hears:
            self._readers.append(self._channels())
        loop = asyncio.get_running_loop()
        self._running = [loop.create_task(reader.run()) for reader in self._readers]

    def stop(self) -> None:
        """Read nothing more. Safe to call again."""
        self._is_stopping = True
        for reader in self._readers:
            reader.stop()

    async def finish(self, limit_s: float) -> None:
        """Wait until all that has been read is a task and acknowledged; what is not by then stays pending."""
        if not self._running:
            return
        _, late = await asyncio.wait(self._running, timeout=limit_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if late:
            logger.warning(
                "{}: not all that was read is acknowledged; another worker takes it over", self._name
            )
        self._running = []

    def close(self) -> None:
        """Let go of the Redis."""
        for task in self._running:
            task.cancel()
        self._link.close()
        self._threads.close()

    def _reach(self, source: str) -> Reach:
        around = self._around
        return Reach(self._name, source, around.stats, around.on_alert, asyncio.get_running_loop())

    def _stream(self, stream: str) -> StreamReader:
        door = self._door
        place = f"{self._name}\0{stream}\0{door.group}\0{self._client.token.name}"
        group = Group(
            self._link,
            stream,
            door.group,
            self._around.consumer,
            start=door.start,
            takeover_s=door.takeover_s,
            form=Form(place, door.field, self._around.config.engine.body_max_bytes),
        )
        return StreamReader(
            group,
            self._threads,
            poison=self._poison,
            reach=self._reach(stream),
            admission=self._around.submitting.admission,
            client=self._client,
            max_age_s=door.max_age_s,
            body_max_bytes=self._around.config.engine.body_max_bytes,
            look_s=door.takeover_s / _LOOKS,
        )

    def _channels(self) -> ChannelReader:
        door, around = self._door, self._around
        now = asyncio.get_running_loop().time
        hold: Hold | None = None
        if around.is_shared:
            shared = f"{without_password(around.config.store.url)} {' '.join(sorted(door.channels))}"
            key = f"{HOLDS}{sha256(shared.encode()).hexdigest()[:16]}"
            hold = Hold(self._link, key, around.consumer, now)
        return ChannelReader(
            self._link.subscription(door.channels),
            self._threads,
            poison=self._poison,
            reach=self._reach(" ".join(door.channels)),
            submitting=around.submitting,
            client=self._client,
            hosts=self._hosts(),
            turn=Turn(hold, KEEP_S, now),
            hold=hold,
            max_age_s=door.max_age_s,
            body_max_bytes=around.config.engine.body_max_bytes,
        )

    def _hosts(self) -> Hosts:
        config, door = self._around.config, self._door
        token = next((token for token in config.auth.tokens if token.name == door.token), None)
        sites = every_host(token.sites if token is not None else (), [site.host for site in config.site])
        return Hosts(self._client.token.hosts.allows, sites, defaults=door.default_hosts, own=None)
