"""What has been read, on its way into the intake: handed in, and again while the intake is full.

A refusal that says "later" (429, 503) is no end: what it was about waits, and is handed in again. Anything
else that is refused is refused for good. Whoever reads has to wait while much is in hand (`Handing.room`), so
a full engine slows its readers down, and holds no more than that many.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
from loguru import logger

from engine.base.backoff import backoff_s
from engine.intake.problems import problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.intake.replies import Reply

IN_HAND_MAX: Final = 32  #: of one reader
_LATER: Final = frozenset({429, 503})
_PAUSE_S: Final = 1.0
_PAUSE_MAX_S: Final = 8.0
_ASKED_MAX_S: Final = 60.0
_LEAST: Final = 0.25  #: of a pause: not all wait for the same moment, which has room for a few of them


class Item(Protocol):
    """Something that was read."""

    @property
    def name(self) -> str:
        """Tells it from all others in hand."""

    @property
    def expires_at(self) -> float:
        """When it is too old to matter, by the loop's time; infinite: never."""

    def hand_in(self, answer: Callable[[Reply | None], None]) -> None:
        """Have it made a task; *answer* is called once: None when it is saved, or why it is not."""


class Ends(Protocol):
    """Told what became of each item."""

    def saved(self, item: Item) -> None:
        """It is a task."""

    def expired(self, item: Item) -> None:
        """It was too old when its turn came."""

    def refused(self, item: Item, why: Reply) -> None:
        """It never will be one."""

    def delayed(self, item: Item, why: Reply) -> None:
        """It is handed in again in a moment."""


class Handing:
    """The items that one reader has in hand.

    Args:
        loop: the engine's.
        ends: see there.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ends: Ends) -> None:
        self._loop = loop
        self._ends = ends
        self._items: dict[str, Item] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._delays: dict[str, int] = {}  # how often each of those in hand was told to come later
        self._is_stopping = False
        self.is_settled = asyncio.Event()  #: set while the intake has none of them
        self.is_settled.set()
        self.has_room = asyncio.Event()  #: set while there is room
        self.has_room.set()
        self.is_empty = asyncio.Event()  #: set while nothing is in hand
        self.is_empty.set()

    def __repr__(self) -> str:
        return f"<Handing [{len(self._items)} in hand, {len(self._waiting)} waiting]>"

    @property
    def names(self) -> list[str]:
        """The names of those in hand."""
        return list(self._items)

    @property
    def room(self) -> int:
        """How many more there may be."""
        return max(0, IN_HAND_MAX - len(self._items))

    def add(self, item: Item) -> None:
        """Hand an item in."""
        self._items[item.name] = item
        self._note()
        self._try(item)

    def stop(self) -> None:
        """Hand nothing in again: what waits is left to whoever reads it next."""
        self._is_stopping = True
        for name, waiting in list(self._waiting.items()):
            waiting.timer.cancel()
            del self._waiting[name]
            self._drop(self._items[name])

    def _try(self, item: Item) -> None:
        self._waiting.pop(item.name, None)
        if self._loop.time() > item.expires_at:
            self._drop(item)
            self._ends.expired(item)
            return
        self._note()
        answered = _Once(self, item)
        try:
            item.hand_in(answered)
        except Exception:  # noqa: BLE001 - one that the engine has an error with must not keep the others
            logger.exception("an error in the engine, with what stands in {}", item.name)
            answered(problem(500, "an error in the engine; its log says more"))

    def answered(self, item: Item, why: Reply | None) -> None:
        """The intake has answered."""
        if why is None:
            self._drop(item)
            self._ends.saved(item)
            self._hurry()
        elif why.status not in _LATER:
            self._drop(item)
            self._ends.refused(item, why)
        elif self._is_stopping:
            self._drop(item)
        else:
            self._ends.delayed(item, why)
            self._wait(item, _asked_s(why))

    def _wait(self, item: Item, asked_s: float) -> None:
        """Hand an item in later, and later still each time: the intake logs each that it has no room for."""
        delays = self._delays.get(item.name, 0)
        self._delays[item.name] = delays + 1
        pause_s = backoff_s(delays, first_s=asked_s, max_s=max(asked_s, _PAUSE_MAX_S), least=_LEAST)
        timer = self._loop.call_later(pause_s, self._try, item)
        self._waiting[item.name] = _Waiting(item, timer, self._loop.time() + _LEAST * asked_s)
        self._note()

    def _hurry(self) -> None:
        """There was room for one: hand the others in as soon as they have waited as they were asked to."""
        for waiting in self._waiting.values():
            if waiting.timer.when() > waiting.not_before:
                waiting.timer.cancel()
                waiting.timer = self._loop.call_at(waiting.not_before, self._try, waiting.item)

    def _drop(self, item: Item) -> None:
        self._items.pop(item.name, None)
        self._delays.pop(item.name, None)
        self._note()

    def _note(self) -> None:
        _set(self.is_settled, len(self._items) <= len(self._waiting))
        _set(self.has_room, len(self._items) < IN_HAND_MAX)
        _set(self.is_empty, not self._items)


class _Waiting(msgspec.Struct):
    """An item that waits."""

    item: Item
    timer: asyncio.TimerHandle
    not_before: float  #: the loop's time


class _Once:
    """Takes the first answer for an item."""

    __slots__ = ("_handing", "_is_answered", "_item")

    def __init__(self, handing: Handing, item: Item) -> None:
        self._handing = handing
        self._item = item
        self._is_answered = False

    def __call__(self, why: Reply | None) -> None:
        if not self._is_answered:
            self._is_answered = True
            self._handing.answered(self._item, why)


def _set(event: asyncio.Event, is_so: bool) -> None:
    if is_so:
        event.set()
    else:
        event.clear()


def _asked_s(why: Reply) -> float:
    """Return how long a refusal asks to wait."""
    try:
        return min(_ASKED_MAX_S, max(0.1, float(why.headers.get("Retry-After", _PAUSE_S))))
    except ValueError:
        return _PAUSE_S
