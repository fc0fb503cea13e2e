"""Purges that come together, as one task: a task for each datagram would cost ten times as much.

What comes within `GATHER_S` from one address is one task, in which a URL stands once, however often it came:
none of it has been sent to any cache. A task that the intake refuses for now, because it is full, cannot
save, or the token's rate is used up, is handed in again for `KEEP_S`: nobody sends a datagram twice. One is
tried at a time, and the others wait behind it and take in what comes, so that the intake is not asked over
and over. A task that is refused for good is taken apart, so that no purge is refused for what others came
with it. All of them count into what is in hand (`Batches.has_room`), and while that is enough nothing more
is read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from engine.base.backoff import backoff_s
from engine.doors.asked import Asked
from engine.doors.htcp.batch import Batch
from engine.doors.htcp.messages import Cleared
from engine.doors.htcp.tally import ACCEPTED, UNSAVED
from engine.intake.client import Addresses, Client
from engine.intake.problems import Problem

if TYPE_CHECKING:
    from engine.doors.htcp.batch import Answer
    from engine.doors.htcp.tally import Tally
    from engine.doors.submitting import Saved, Submitting
    from engine.intake.auth import Token
    from engine.intake.replies import Reply

KIND: Final = "htcp"  #: of the door, see `By.door`
GATHER_S: Final = 0.005
KEEP_S: Final = 30.0
_URLS_MAX: Final = 1000  #: of one task
_URLS_MAX_BYTES: Final = 1024 * 1024
_IN_HAND_MAX_BYTES: Final = 16 * 1024 * 1024
_RETRY_FIRST_S: Final = 0.1
_RETRY_MAX_S: Final = 1.0
_FOR_NOW: Final = frozenset({429, 503})  #: statuses after which the same may be taken
_decode = msgspec.json.Decoder(Problem).decode


class Batches:
    """The purges of one door that are not saved yet.

    Args:
        submitting: takes the tasks.
        token: of the door.
        tally: counts the datagrams.
        wait_s: how long a sender that asked for an answer waits for the caches; 0: until its purge is saved.
    """

    def __init__(self, submitting: Submitting, token: Token, tally: Tally, *, wait_s: float) -> None:
        self._submitting = submitting
        self._token = token
        self._tally = tally
        self._wait_s = wait_s
        self._addresses = Addresses()
        self._waiting: deque[Batch] = deque()  # until the one that is tried is taken
        self._tried: Batch | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._failures = 0  # in a row
        self._refused_for: Reply
        self._loop = asyncio.get_running_loop()
        self._open: dict[str, Batch] = {}  # by address
        self._in_hand: set[Batch] = set()
        self._acking: set[Batch] = set()  # of those the ones whose senders wait for the caches
        self._bytes = 0  # that they take
        self._is_closing = False
        self._empty = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Batches [{len(self._in_hand)} in hand, {self._bytes} bytes]>"

    def has_room(self) -> bool:
        """Tell whether further datagrams can be taken.

        While half of the engine's room is taken, one task at a time is: a flood leaves the rest to clients of
        other doors, and they leave something to this one.
        """
        if self._bytes >= _IN_HAND_MAX_BYTES:
            return False
        is_taken_up = len(self._in_hand) > len(self._acking)
        return not is_taken_up or not self._submitting.admission.is_crowded

    def add(self, url: str, address: str, answer: Answer | None) -> None:
        """Take one purge.

        Args:
            url: in its stored form.
            address: of its sender.
            answer: called once; None: nobody asked for an answer.
        """
        if answer is not None and self._wait_s:
            batch = self._new(address)  # by itself: what the caches say of others is not the answer
            self._bytes += batch.add(url, answer)
            self._submit(batch)
            return
        batch = self._open.get(address) or self._begin(address)
        self._bytes += batch.add(url, answer)
        if len(batch.urls) >= _URLS_MAX or batch.size >= _URLS_MAX_BYTES:
            del self._open[address]
            self._submit(batch)

    def _begin(self, address: str) -> Batch:
        if not self._open:
            self._loop.call_later(GATHER_S, self.flush)
        batch = self._open[address] = self._new(address)
        return batch

    def _new(self, address: str) -> Batch:
        by = self._addresses.by(self._token.name, address, KIND)
        return self._keep(Batch(Client(self._token, by), self._loop.time() + KEEP_S))

    def _keep(self, batch: Batch) -> Batch:
        self._in_hand.add(batch)
        self._bytes += batch.size
        return batch

    @property
    def _is_held_up(self) -> bool:
        return bool(self._waiting or self._tried or self._pause)

    def flush(self) -> None:
        """Hand in what has been gathered, unless others wait."""
        if self._is_held_up and not self._is_closing:
            return
        batches, self._open = self._open, {}
        for batch in batches.values():
            self._submit(batch)

    def _submit(self, batch: Batch) -> None:
        if self._is_held_up and not self._is_closing:
            self._waiting.append(batch)
        else:
            self._hand_in(batch)

    def _hand_in(self, batch: Batch) -> None:
        submitting = self._submitting
        submitting.admission.stats.requests += 1
        asked = Asked("url", list(batch.urls), is_literal=batch.is_literal)
        wait_s = self._wait_s if batch.answers else 0
        if wait_s:
            self._acking.add(batch)
        submitting.submit(asked, batch.client, partial(self._answered, batch), wait_s=wait_s)

    def _answered(self, batch: Batch, saved: Saved) -> None:
        refusal = saved.refusal
        self._acking.discard(batch)
        if batch not in self._in_hand:
            return
        if refusal is None:
            self._tally.count(ACCEPTED, batch.count)
            self._end(batch, _cleared(saved))
            return
        if refusal.status in _FOR_NOW and not self._is_closing and self._loop.time() < batch.until:
            self._wait(batch, refusal)
        elif refusal.status not in _FOR_NOW and len(batch.urls) > 1:
            for half in batch.halves():
                self._loop.call_soon(self._submit, self._keep(half))
            self._drop(batch)
        else:
            self._give_up(batch, _detail_of(refusal))

    def _give_up(self, batch: Batch, why: str) -> None:
        self._tally.refuse(UNSAVED, batch.client.by.address, why, batch.count)
        self._end(batch, Cleared.KEPT)

    def _wait(self, batch: Batch, refusal: Reply) -> None:
        """Keep a batch that was refused for now, and try again in a moment."""
        self._refused_for = refusal
        if batch is self._tried:
            self._tried = None
            self._waiting.appendleft(batch)
        else:
            self._waiting.append(batch)
        if self._tried is None and self._pause is None:
            wait_s = backoff_s(self._failures, first_s=_RETRY_FIRST_S, max_s=_RETRY_MAX_S)
            self._failures += 1
            self._pause = self._loop.call_later(wait_s, self._try_again)

    def _try_again(self) -> None:
        """Hand in the one that has waited longest; those that have waited too long are given up."""
        self._pause = None
        self._waiting.extend(self._open.values())
        self._open = {}
        now, why = self._loop.time(), _detail_of(self._refused_for)
        for batch in [batch for batch in self._waiting if batch.until <= now]:
            self._waiting.remove(batch)
            self._give_up(batch, why)
        self._try_next()

    def _try_next(self) -> None:
        """Try the next one that waits; where none does, nothing is held up any more."""
        if not self._waiting:
            self.flush()
            return
        batch = self._waiting.popleft()
        if self._wait_s and batch.answers:  # told when the caches are done: others do not wait for that
            self._loop.call_soon(self._go_on)
        else:
            self._tried = batch
        self._hand_in(batch)

    def _end(self, batch: Batch, cleared: Cleared) -> None:
        self._drop(batch)
        for _, answer in batch.answers:
            answer(cleared)

    def _drop(self, batch: Batch) -> None:
        self._in_hand.discard(batch)
        self._acking.discard(batch)
        self._bytes -= batch.size
        if batch is self._tried:
            self._tried, self._failures = None, 0
            self._loop.call_soon(self._go_on)
        if not self._in_hand:
            self._empty.set()

    def _go_on(self) -> None:
        if self._tried is None and self._pause is None:
            self._try_next()

    def stop_retrying(self) -> None:
        """Hand in what has been gathered; what is refused from now on is not handed in again."""
        self._is_closing = True
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        while self._waiting:
            self._hand_in(self._waiting.popleft())
        self.flush()

    def close(self) -> None:
        """Count what is in hand as not saved: nobody waits for it any more. Safe to call again."""
        for batch in list(self._in_hand):
            self._tally.refuse(UNSAVED, batch.client.by.address, "the engine has ended", batch.count)
            self._drop(batch)
        self._open.clear()
        self._waiting.clear()

    async def wait_empty(self, timeout_s: float) -> None:
        """Wait until nothing is in hand, for at most *timeout_s*."""
        self._empty.clear()
        if self._in_hand:
            try:
                await asyncio.wait_for(self._empty.wait(), timeout_s)
            except TimeoutError:
                return


def _cleared(saved: Saved) -> Cleared:
    """Return what a CLR is answered: of a task that nobody waited for, that it is saved and will be done."""
    total = sum(task.total for task in saved.tasks)
    acked = sum(share.acked_count for task in saved.tasks for share in task.shares)
    if acked < total:
        return Cleared.KEPT
    absent = sum(task.absent_count for task in saved.tasks)
    return Cleared.ABSENT if total and absent >= total else Cleared.GONE


def _detail_of(refusal: Reply) -> str:
    try:
        return _decode(refusal.body).detail
    except msgspec.DecodeError:
        return str(refusal.status)
