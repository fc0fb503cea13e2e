"""The way out of a channel whose requests are rules of a file, in place of a connection.

What waits is written at once, many rules with one writing; nothing waits for rules that were written before.
A purge counts when the plug-in's state file says that it has the rule of that writing, in two looks, one
after the other: the plug-in writes its state a moment before it goes by it. Nothing tells when that file
changes, so it is read every `LOOK_S`, in a thread, as long as a rule is waited for.

A rule that is not in force in `PATIENCE_S` is kept as a refused purge is: the plug-in looks at the file every
60 s, so somebody has to see why. One that it passes over, of a file that it has read, it cannot compile.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final, Protocol

from engine.base.background import Background
from engine.nodes.answer import Answer
from engine.nodes.drivers.rules import LINE_BYTES_MAX, MARKER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.base.timer import Timer
    from engine.nodes.drivers.rules import InForce
    from engine.nodes.health import Health
    from engine.nodes.keeper import Keeper
    from engine.nodes.queue import Item
    from engine.nodes.rule_file import RuleFile, Written
    from engine.tasks.words import Operation

LOOK_S: Final = 0.5
PATIENCE_S: Final = 150.0
AT_ONCE: Final = 256  #: rules of one writing
_IN_FORCE: Final = Answer(200, 1, keep_alive=True)
"""How a rule in force is read: as the page by which ATS answers a purge of more than a URL."""
_LOOKS: Final = 2


class Feeder(Protocol):
    """The channel."""

    timer: Timer

    def take(self, room: int) -> list[Item]:
        """Return up to *room* requests to send now."""

    def put_back(self, items: list[Item]) -> None:
        """Queue requests again, in front."""

    def settle(self, items: list[Item], answers: list[Answer], duration_s: float) -> None:
        """Take requests that were done."""


@dataclass(slots=True)
class _Pending:
    """A purge whose rule was written."""

    item: Item
    pattern: str
    written: Written
    since: float  #: `time.monotonic`, as the next one
    unseen_at: float  #: when the last look began that did not show what became of it, or the writing ended
    looks: int = 0  #: in a row that told the same of it
    is_passed_over: bool = False  #: what they told: it is not in force, though the file was read

    def told(self, in_force: dict[str, InForce], now: float) -> None:
        """Count a look that began at *now*."""
        is_read, is_marked = (self._has(pattern, in_force) for pattern in (self.pattern, MARKER))
        is_passed_over = is_marked and not is_read
        is_same = is_passed_over == self.is_passed_over
        self.is_passed_over = is_passed_over
        self.looks = (self.looks + 1 if is_same else 1) if is_read or is_passed_over else 0
        if not self.looks:
            self.unseen_at = now

    def _has(self, pattern: str, in_force: dict[str, InForce]) -> bool:
        found = in_force.get(pattern)
        written = self.written
        return found is not None and found.expiry >= written.expiries[pattern] and found.epoch >= written.at


class RuleWriter:
    """Writes the rules of one node, and looks which are in force.

    Args:
        channel: gives the requests, and takes what was done.
        file: of the node.
        health: of the node.
        keeper: told of rules that are not in force.
    """

    peer = ""

    def __init__(self, channel: Feeder, file: RuleFile, health: Health, keeper: Keeper) -> None:
        self._channel = channel
        self._file = file
        self._health = health
        self._keeper = keeper
        self._background = Background()
        self._pending: list[_Pending] = []
        self._writing: list[Item] = []
        self._is_looking = False

    def __repr__(self) -> str:
        return f"<RuleWriter of {self._file} [{len(self._pending)} not in force yet]>"

    @property
    def items(self) -> Iterator[Item]:
        """Requests whose rules are not known to be in force."""
        yield from self._writing
        for pending in self._pending:
            yield pending.item

    @property
    def in_flight(self) -> int:
        """Return how many they are."""
        return len(self._writing) + len(self._pending)

    @property
    def takes_more(self) -> bool:
        """Whether rules could be written now."""
        return not self._writing and not self._health.is_down

    @property
    def oldest_sent_at(self) -> float:
        """When the last look began that did not show a rule that is waited for; infinity: there is none.

        Not when the rule was written: the ``Date`` of what was fetched before the plug-in read it says so.
        """
        return min((pending.unseen_at for pending in self._pending), default=inf)

    def fill(self) -> None:
        """Write the rules of what waits."""
        if not self.takes_more:
            return
        items = self._channel.take(AT_ONCE)
        if not items:
            return
        self._writing = items
        self._background.start(self._write(items))

    async def _write(self, items: list[Item]) -> None:
        patterns = {id(item): self._file.pattern_of(*_request_of(item)) for item in items}
        short = [item for item in items if len(patterns[id(item)]) <= LINE_BYTES_MAX]
        written, reason = None, ""
        try:
            if short:
                wanted = dict.fromkeys(patterns[id(item)] for item in short)
                written = await asyncio.to_thread(self._file.write, wanted, time.time())
        except OSError as exc:
            why = f"{exc.strerror}; the engine of this machine writes it" if exc.strerror else str(exc)
            reason = f"refused: {self._file.path}: {why}"
        if self._writing is not items:
            return  # the node went down meanwhile
        self._writing = []
        now = time.monotonic()
        for item in items:
            pattern = patterns[id(item)]
            if len(pattern) > LINE_BYTES_MAX:
                self._keeper.unreadable(
                    item, f"its rule has {len(pattern)} characters; regex_revalidate reads {LINE_BYTES_MAX}"
                )
            elif written is None:
                self._keeper.refused(item, reason)
            else:
                self._pending.append(_Pending(item, pattern, written, now, now))
        self._look_later()
        self.fill()

    def _look_later(self) -> None:
        if self._pending and not self._is_looking:
            self._is_looking = True
            self._channel.timer.add((self, "look"), LOOK_S, self._start_look)

    def _start_look(self) -> None:
        self._background.start(self._look())

    async def _look(self) -> None:
        now = since = time.monotonic()
        reason = f"has not read {self._file.path} within {PATIENCE_S:g} s, as {self._file.state_path} shows"
        try:
            in_force = await asyncio.to_thread(self._file.in_force)
        except OSError as exc:
            in_force, reason = {}, f"cannot be looked at: {exc}"
        self._is_looking = False
        done: list[Item] = []
        waiting: list[_Pending] = []
        looked, self._pending = self._pending, []
        for pending in looked:
            pending.told(in_force, now)
            if pending.looks >= _LOOKS and not pending.is_passed_over:
                done.append(pending.item)
                since = min(since, pending.unseen_at)
            elif pending.looks >= _LOOKS:
                self._keeper.unreadable(
                    pending.item, "regex_revalidate passed its rule over: it cannot compile it"
                )
            elif now - pending.since > PATIENCE_S:
                self._keeper.refused(pending.item, f"refused: the plug-in regex_revalidate {reason}")
            else:
                waiting.append(pending)
        self._pending = waiting + self._pending
        if done:
            self._channel.settle(done, [_IN_FORCE] * len(done), time.monotonic() - since)
        self._look_later()
        self.fill()

    def abort(self, reason: str) -> None:
        """Wait for nothing more: what is not in force is queued again."""
        items = list(self.items)
        self._background.cancel()
        self._writing, self._pending = [], []
        self._channel.timer.cancel((self, "look"))
        self._is_looking = False
        if items:
            self._channel.put_back(items)


def _request_of(item: Item) -> tuple[Operation, str]:
    share, index, _ = item
    return share.operation, share.task.targets[index]
