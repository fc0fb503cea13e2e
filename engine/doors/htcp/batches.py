"""Purges that come together, as one task: a task for each datagram would cost ten times as much.

What comes within `GATHER_S` from one address is one task, in which a URL stands once, however often it
came: none of it has been sent to any cache. A task that the intake refuses for now, because it is full,
cannot save, or the token's rate is used up, is handed in again for `KEEP_S`: nobody sends a datagram
twice. Meanwhile it counts into what is in hand (`Batches.has_room`), and while that is enough no further
datagram is read.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from engine.base.backoff import backoff_s
from engine.doors.asked import Asked
from engine.doors.htcp.messages import Cleared
from engine.doors.htcp.tally import ACCEPTED, UNSAVED
from engine.intake.client import Client
from engine.intake.problems import Problem
from engine.tasks.records import By

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.doors.htcp.tally import Tally
    from engine.doors.submitting import Saved, Submitting
    from engine.intake.auth import Token
    from engine.intake.replies import Reply

    Answer = Callable[[Cleared], None]
    """Tells the sender of one CLR what became of it."""

KIND: Final = "htcp"  #: of the door, see `By.door`
GATHER_S: Final = 0.005
KEEP_S: Final = 30.0
_URLS_MAX: Final = 1000  #: of one task
_IN_HAND_MAX_BYTES: Final = 16 * 1024 * 1024
_URL_BYTES: Final = 200  #: that a URL in hand takes beside its letters
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
        self._loop = asyncio.get_running_loop()
        self._open: dict[str, _Batch] = {}  # by address
        self._count = 0  # of batches in hand
        self._bytes = 0  # of their URLs
        self._is_closing = False
        self._empty = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Batches [{self._count} in hand, {self._bytes} bytes]>"

    def has_room(self) -> bool:
        """Tell whether further datagrams can be taken.

        While half of the engine's room is taken, one task at a time is: a flood leaves the rest to clients of
        other doors, and they leave something to this one.
        """
        if self._bytes >= _IN_HAND_MAX_BYTES:
            return False
        return not self._count or not self._submitting.admission.is_crowded

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
        if len(batch.urls) >= _URLS_MAX:
            del self._open[address]
            self._submit(batch)

    def _begin(self, address: str) -> _Batch:
        if not self._open:
            self._loop.call_later(GATHER_S, self.flush)
        batch = self._open[address] = self._new(address)
        return batch

    def _new(self, address: str) -> _Batch:
        self._count += 1
        client = Client(self._token, By(self._token.name, address, KIND))
        return _Batch(client, self._loop.time() + KEEP_S)

    def flush(self) -> None:
        """Hand in what has been gathered."""
        batches, self._open = self._open, {}
        for batch in batches.values():
            self._submit(batch)

    def _submit(self, batch: _Batch) -> None:
        submitting = self._submitting
        submitting.admission.stats.requests += 1
        asked = Asked("url", list(batch.urls), is_literal=batch.is_literal)
        wait_s = self._wait_s if batch.answers else 0
        submitting.submit(asked, batch.client, partial(self._answered, batch), wait_s=wait_s)

    def _answered(self, batch: _Batch, saved: Saved) -> None:
        refusal = saved.refusal
        if refusal is None:
            self._tally.count(ACCEPTED, batch.count)
            self._end(batch, _cleared(saved))
            return
        if refusal.status in _FOR_NOW and not self._is_closing and self._loop.time() < batch.until:
            wait_s = backoff_s(batch.failures, first_s=_RETRY_FIRST_S, max_s=_RETRY_MAX_S)
            batch.failures += 1
            self._loop.call_later(wait_s, self._submit, batch)
            return
        self._tally.refuse(UNSAVED, batch.client.by.address, _detail_of(refusal), batch.count)
        self._end(batch, Cleared.KEPT)

    def _end(self, batch: _Batch, cleared: Cleared) -> None:
        self._count -= 1
        self._bytes -= batch.size
        if not self._count:
            self._empty.set()
        for answer in batch.answers:
            answer(cleared)

    def close(self) -> None:
        """Hand in what has been gathered; what is refused from now on is not handed in again."""
        self._is_closing = True
        self.flush()

    async def wait_empty(self, timeout_s: float) -> None:
        """Wait until nothing is in hand, for at most *timeout_s*."""
        self._empty.clear()
        if self._count:
            try:
                await asyncio.wait_for(self._empty.wait(), timeout_s)
            except TimeoutError:
                return


class _Batch:
    """What one task is to purge, and who waits for it."""

    __slots__ = ("answers", "client", "count", "failures", "is_literal", "size", "until", "urls")

    def __init__(self, client: Client, until: float) -> None:
        self.client = client
        self.until = until  # the loop's time
        self.urls: dict[str, None] = {}
        self.answers: list[Answer] = []
        self.count = 0  # of datagrams
        self.size = 0
        self.failures = 0
        self.is_literal = False  # a URL ends in a sign that is meant so

    def add(self, url: str, answer: Answer | None) -> int:
        """Take one purge; return how many bytes that takes."""
        size = len(url) + _URL_BYTES
        self.size += size
        self.urls[url] = None
        self.count += 1
        if url.endswith("*"):
            self.is_literal = True
        if answer is not None:
            self.answers.append(answer)
        return size


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
