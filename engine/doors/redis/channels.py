"""The loop around the channels of a door: messages in, tasks to the intake.

Redis keeps no messages: what is published while nobody listens is lost, and nobody can tell what it was. So
nothing here acknowledges anything, and a lost connection is counted and told. What has been heard waits while
the intake is full; while much waits nothing more is read, and Redis keeps for a while what this worker does
not take.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec
from loguru import logger

from engine.base.backoff import backoff_s
from engine.base.turns import SLICE_S
from engine.doors.redis.handing import Handing
from engine.doors.redis.messages import understand
from engine.doors.redis.poison import Refused, problem_of
from engine.errors import RequestError, StoreError
from engine.intake.problems import too_large

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.doors.asked import Asked
    from engine.doors.hosts import Hosts
    from engine.doors.redis.handing import Item
    from engine.doors.redis.hold import Hold
    from engine.doors.redis.poison import Poison
    from engine.doors.redis.reach import Reach
    from engine.doors.redis.turn import Turn
    from engine.doors.submitting import Saved, Submitting
    from engine.intake.client import Client
    from engine.intake.replies import Reply
    from engine.saver.reader import StoreReader
    from engine.store.redis.subscription import Subscription

WAIT_S: Final = 0.5
LINGER_S: Final = 1.5
"""One that ends goes on listening for so long: the worker after it may not be listening yet."""
_WAITING_MAX: Final = 10_000  #: messages that have been heard
_WAITING_MAX_BYTES: Final = 64 * 1024 * 1024
_TARGET_BYTES: Final = 250  #: that one takes beside the letters of the message
_RETRY_FIRST_S: Final = 0.1
_RETRY_MAX_S: Final = 5.0


class Heard(msgspec.Struct, frozen=True):
    """One message."""

    channel: str
    body: bytes
    asked: list[Asked]
    why: RequestError | None  #: it is refused
    size: int = 0  #: bytes that it takes while it waits, about


class ChannelReader:
    """Listens to the channels of one door.

    Args:
        subscription: to them; called in *threads*.
        threads: where.
        poison: takes what is refused for good.
        reach: tells the operator.
        submitting: takes what is asked for.
        client: who asks.
        hosts: that may be purged.
        turn: whether this worker makes messages tasks.
        hold: by which it is; None: nobody else hears them.
        max_age_s: what has waited for longer is dropped; 0: nothing is.
        body_max_bytes: of a message.
    """

    def __init__(
        self,
        subscription: Subscription,
        threads: StoreReader,
        *,
        poison: Poison,
        reach: Reach,
        submitting: Submitting,
        client: Client,
        hosts: Hosts,
        turn: Turn,
        hold: Hold | None,
        max_age_s: float,
        body_max_bytes: int,
    ) -> None:
        self._subscription = subscription
        self._threads = threads
        self._poison = poison
        self._reach = reach
        self._submitting = submitting
        self._client = client
        self._hosts = hosts
        self._turn = turn
        self._hold = hold
        self._max_age_s = max_age_s
        self._body_max_bytes = body_max_bytes
        self._loop = asyncio.get_running_loop()
        self._handing = Handing(self._loop, self)
        self._waiting: deque[tuple[float, Heard]] = deque()
        self._waiting_bytes = 0
        self._refused: list[Refused] = []
        self._count = 0
        self._stopping = asyncio.Event()
        self._is_last = False  # it listens no more, and makes tasks of the rest
        self._until = math.inf  # the loop's time at which it listens no more
        self._has_news = asyncio.Event()

    def __repr__(self) -> str:
        return f"<ChannelReader with {self._subscription!r} [{len(self._waiting)} waiting]>"

    # Running

    def stop(self) -> None:
        """Listen no more, after `LINGER_S`."""
        self._until = min(self._until, self._loop.time() + LINGER_S)
        self._stopping.set()

    async def run(self) -> None:
        """Listen until `stop`, whatever happens to the Redis; then finish what has been heard."""
        listening = asyncio.ensure_future(self._listen())
        try:
            while not listening.done():
                self._has_news.clear()
                await self._hand_in()
                await self._wait(self._has_news, WAIT_S)
            self._is_last = listening.result()
            while self._waiting and self._is_ours():
                await self._hand_in()
                await self._wait(self._handing.has_room, WAIT_S)
            await self._handing.is_empty.wait()
            await self._hand_in()
        finally:
            listening.cancel()
            lost = len(self._handing.names) + (len(self._waiting) if self._is_ours() else 0)
            self._handing.stop()
            if lost:
                self._reach.count("lost", lost)
                logger.warning("{} messages were heard, and are no tasks: the engine ends", lost)

    def _is_ours(self) -> bool:
        """Tell whether this worker makes tasks of what it has heard."""
        return self._is_last or self._turn.is_ours()

    async def _listen(self) -> bool:
        """Listen to the end; tell whether it was this worker's turn then."""
        failures = 0
        is_open = False
        while self._loop.time() < self._until:
            try:
                if not is_open:
                    await self._threads.read(self._subscription.open)
                    is_open, failures = True, 0
                    self._reach.reached()
                heard = await self._threads.read(self._hear)
            except StoreError as exc:
                is_open = False
                self._failed(str(exc))
                if self._stopping.is_set():
                    break
            except Exception as exc:  # noqa: BLE001 - a door that ended in silence would lose all that comes
                logger.exception("an error in the engine, listening to channels")
                is_open = False
                self._failed(f"an error in the engine: {type(exc).__name__}")
            else:
                self._add(heard)
                while self._is_full() and not self._stopping.is_set():
                    await self._wait(self._stopping, WAIT_S)
                continue
            failures += 1
            await self._wait(self._stopping, backoff_s(failures, first_s=_RETRY_FIRST_S, max_s=_RETRY_MAX_S))
        is_ours = self._turn.is_ours()
        if self._hold is not None:
            with contextlib.suppress(StoreError):
                await self._threads.read(self._hold.release)
        await self._threads.read(self._subscription.close)
        return is_ours

    def _failed(self, why: str) -> None:
        if self._hold is not None:
            self._hold.forget()
        self._reach.failed(f"{why}; what is published meanwhile is lost")

    async def _wait(self, event: asyncio.Event, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), seconds)

    # Messages

    def _hear(self) -> list[Heard]:
        """Return what comes, read; in a thread."""
        if self._hold is not None and self._hold.is_due():
            self._hold.renew()
        return [self._read(*message) for message in self._subscription.read(WAIT_S)]

    def _read(self, channel: str, body: bytes) -> Heard:
        if len(body) > self._body_max_bytes:
            return Heard(channel, body, [], too_large(self._body_max_bytes), len(body))
        try:
            asked = understand(body, self._hosts)
        except RequestError as exc:
            return Heard(channel, body, [], exc, len(body))
        targets = sum(len(one.targets) for one in asked)  # of a tag, one for each host
        return Heard(channel, body, asked, None, len(body) + targets * _TARGET_BYTES)

    def _is_full(self) -> bool:
        return len(self._waiting) >= _WAITING_MAX or self._waiting_bytes >= _WAITING_MAX_BYTES

    def _add(self, heard: list[Heard]) -> None:
        now = self._loop.time()
        for one in heard:
            self._waiting.append((now, one))
            self._waiting_bytes += one.size
        while self._is_full() and self._waiting and not self._turn.is_ours() and self._turn.knows_leader():
            self._take()  # what is kept for another worker must not keep this one from hearing
            self._reach.count("left_to_leader")
        if heard:
            self._has_news.set()

    def _take(self) -> tuple[float, Heard]:
        at, heard = self._waiting.popleft()
        self._waiting_bytes -= heard.size
        return at, heard

    async def _hand_in(self) -> None:
        """Hand in what has been heard, as far as there is room; or forget what another worker has done."""
        while self._waiting and not self._is_ours() and self._turn.is_done(self._waiting[0][0]):
            self._take()
            self._reach.count("left_to_leader")
        until = self._loop.time() + SLICE_S
        while self._waiting and self._is_ours():
            if self._loop.time() > until:
                await asyncio.sleep(0)
                until = self._loop.time() + SLICE_S
            if not self._handing.room:
                await self._wait(self._handing.has_room, WAIT_S)
                break
            at, heard = self._take()
            self._count += 1
            expires_at = at + self._max_age_s if self._max_age_s else math.inf
            item = _MessageItem(self, f"message {self._count}", heard, expires_at)
            admission = self._submitting.admission
            admission.stats.requests += 1
            if heard.why is not None:
                request = f"message on channel {heard.channel}"
                self.refused(item, admission.refuse(heard.why, self._client.by, request=request))
            else:
                self._handing.add(item)
        if self._waiting and self._is_ours():
            self._has_news.set()
        if self._refused:
            await self._set_aside()

    def hand_in(self, heard: Heard, answer: Callable[[Reply | None], None]) -> None:
        """Have a message made tasks; the answer comes when all are saved, or the first is not."""
        left = len(heard.asked)

        def answered(saved: Saved) -> None:
            nonlocal left
            left -= 1
            if saved.refusal is not None or not left:
                answer(saved.refusal)

        for asked in heard.asked:
            self._submitting.submit(asked, self._client, answered)

    # What becomes of them

    def saved(self, item: Item) -> None:
        """It is a task."""
        del item
        self._reach.count("saved")

    def expired(self, item: Item) -> None:
        """It has waited for longer than ``max_age_s``."""
        del item
        self._reach.count("too_old")

    def refused(self, item: Item, why: Reply) -> None:
        """It never will be a task."""
        assert isinstance(item, _MessageItem)
        heard = item.heard
        self._refused.append(Refused("channel", heard.channel, "", heard.body, problem_of(why)))
        self._has_news.set()

    def delayed(self, item: Item, why: Reply) -> None:
        """It waits."""
        del item, why
        self._reach.count("delayed")

    async def _set_aside(self) -> None:
        refused, self._refused = self._refused, []
        for one in refused:
            self._reach.refused(one.detail, self._poison.key)
        try:
            await self._threads.read(self._poison.add, refused)
        except StoreError as exc:
            self._reach.not_set_aside(str(exc), refused[0].detail, self._poison.key, len(refused))


class _MessageItem:
    """A message in hand; see `Item`."""

    __slots__ = ("_reader", "expires_at", "heard", "name")

    def __init__(self, reader: ChannelReader, name: str, heard: Heard, expires_at: float) -> None:
        self._reader = reader
        self.heard = heard
        self.name = name
        self.expires_at = expires_at

    def hand_in(self, answer: Callable[[Reply | None], None]) -> None:
        """See `Item`."""
        self._reader.hand_in(self.heard, answer)
