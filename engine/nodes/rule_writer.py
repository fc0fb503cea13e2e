"""The way out of a channel whose requests are rules of a file, in place of a connection.

What waits is written at once, many rules with one writing; nothing waits for rules that were written before.
Between two writings there is a second, because the plug-in counts whole seconds of the file's time.
A purge counts when the plug-in's state file says that it has the rule of that writing, in two looks, one
after the other: the plug-in writes its state a moment before it goes by it. Nothing tells when that file
changes, so it is read every `LOOK_S`, in a thread, as long as a rule is waited for.

A rule that is not in force in `PATIENCE_S` is kept as a refused purge is: the plug-in looks at the file every
60 s, so somebody has to see why. One that it passes over, of a file that it has read, it cannot compile.
Where the rule is not in the file any more, somebody put another file in its place: it is written once more.
"""

from __future__ import annotations

import asyncio
import errno
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Final, ParamSpec, Protocol, TypeVar

from engine.base.background import Background
from engine.nodes.answer import Answer
from engine.nodes.drivers.rules import LINE_BYTES_MAX
from engine.nodes.pending_rule import PendingRule
from engine.nodes.rule_file import RULES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.base.timer import Timer
    from engine.nodes.drivers.rules import InForce, Rule
    from engine.nodes.health import Health
    from engine.nodes.keeper import Keeper
    from engine.nodes.queue import Item
    from engine.nodes.rule_file import RuleFile
    from engine.tasks.words import Operation

LOOK_S: Final = 0.5
PATIENCE_S: Final = 150.0
AT_ONCE: Final = 256  #: rules of one writing
WRITE_S: Final = 1.0  #: between two writings
AHEAD_MAX_S: Final = 5.0  #: as long as writings wait for the clock where the file's time is ahead of it
_DISK_S: Final = 20.0  #: what the disk takes longer for is given up
_IN_FORCE: Final = Answer(200, 1, keep_alive=True)
"""How a rule in force is read: as the page by which ATS answers a purge of more than a URL."""
_NOT_OURS: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS})
_FULL: Final = f"more than {RULES_MAX} rules that have not expired (rules_keep_s): purge hosts, one rule each"

P = ParamSpec("P")
T = TypeVar("T")


class Feeder(Protocol):
    """The channel."""

    timer: Timer

    def take(self, room: int) -> list[Item]:
        """Return up to *room* requests to send now."""

    def put_back(self, items: list[Item]) -> None:
        """Queue requests again, in front."""

    def settle(self, items: list[Item], answers: list[Answer], duration_s: float) -> None:
        """Take requests that were done."""


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
        self._pending: list[PendingRule] = []
        self._writing: list[Item] = []
        self._is_looking = False
        self._next_at = 0.0  #: `time.monotonic` of the next writing
        self._lost: set[str] = set()  #: patterns that were written once more
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rules")

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
        wait_s = self._next_at - time.monotonic()
        if wait_s > 0:
            self._channel.timer.add((self, "fill"), wait_s, self.fill)
            return
        items = self._channel.take(AT_ONCE)
        if not items:
            return
        self._writing = items
        self._background.start(self._write(items))

    async def _write(self, items: list[Item]) -> None:
        patterns: dict[int, str] = {}
        written, reason = None, _FULL
        try:
            patterns = {id(item): self._file.pattern_of(*_request_of(item)) for item in items}
            short = dict.fromkeys(pattern for pattern in patterns.values() if len(pattern) <= LINE_BYTES_MAX)
            if short:
                written = await self._call(self._file.write, short, time.time())
        except Exception as exc:  # noqa: BLE001 - whatever it is: purges must not wait for it without a word
            reason = _reason_of(exc)
        if self._writing is not items:
            return  # the node went down meanwhile
        self._writing = []
        self._next_at = now = time.monotonic()
        if written is not None:
            self._next_at += min(max(WRITE_S, written.changed_at + WRITE_S - time.time()), AHEAD_MAX_S)
        for item in items:
            pattern = patterns.get(id(item), "")
            if len(pattern) > LINE_BYTES_MAX:
                self._keeper.unreadable(
                    item, f"its rule has {len(pattern)} characters; regex_revalidate reads {LINE_BYTES_MAX}"
                )
            elif written is None or pattern not in written.expiries:
                self._keeper.refused(item, self._refusal(reason))
            else:
                self._pending.append(PendingRule(item, pattern, written, now, now))
        self._look_later()
        self.fill()

    def _refusal(self, reason: str) -> str:
        path = str(self._file.path)
        return f"refused: {reason}" if reason.startswith(path) else f"refused: {path}: {reason}"

    async def _call(self, function: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        async with asyncio.timeout(_DISK_S):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, partial(function, *args, **named))

    def _look_later(self) -> None:
        if self._pending and not self._is_looking:
            self._is_looking = True
            self._channel.timer.add((self, "look"), LOOK_S, self._start_look)

    def _start_look(self) -> None:
        self._background.start(self._look())

    async def _look(self) -> None:
        now = time.monotonic()
        in_force: dict[str, InForce] = {}
        rules: dict[str, Rule] | None = None
        reason = f"has not read {self._file.path} within {PATIENCE_S:g} s, as {self._file.state_path} shows"
        try:
            in_force = await self._call(self._file.in_force)
            for pending in self._pending:
                pending.told(in_force, now)
            if any(pending.is_left_out for pending in self._pending):
                rules = await self._call(self._file.rules)
        except Exception as exc:  # noqa: BLE001 - as in `_write`
            reason = f"cannot be looked at: {_reason_of(exc)}"
        self._is_looking = False
        looked, self._pending = self._pending, []
        lost: list[PendingRule] = []
        for pending in looked:
            stands = pending.stands(rules, in_force) if rules is not None and pending.is_left_out else None
            if pending.is_in_force:
                continue
            if stands:
                self._lost.discard(pending.pattern)
                self._keeper.unreadable(
                    pending.item, "regex_revalidate passed its rule over: it cannot compile it"
                )
            elif stands is False:
                lost.append(pending)
            elif now - pending.since > PATIENCE_S:
                self._keeper.refused(pending.item, f"refused: the plug-in regex_revalidate {reason}")
            else:
                self._pending.append(pending)
        self._settle([pending for pending in looked if pending.is_in_force])
        self._write_again(lost)
        self._look_later()
        self.fill()

    def _settle(self, done: list[PendingRule]) -> None:
        if done:
            self._lost.difference_update(pending.pattern for pending in done)
            duration_s = time.monotonic() - min(pending.unseen_at for pending in done)
            self._channel.settle([pending.item for pending in done], [_IN_FORCE] * len(done), duration_s)

    def _write_again(self, lost: list[PendingRule]) -> None:
        """Queue again what another program took out of the file; the second time an operator has to know."""
        second = [pending for pending in lost if pending.pattern in self._lost]
        again = [pending for pending in lost if pending.pattern not in self._lost]
        self._lost = {pending.pattern for pending in again} | (self._lost - {one.pattern for one in second})
        for pending in second:
            why = "another program takes rules out before the plug-in reads them (Salt: replace: False)"
            self._keeper.refused(pending.item, self._refusal(why))
        self._give_back([pending.item for pending in again])

    def _give_back(self, items: list[Item]) -> None:
        wanted = self._keeper.wanted(items)
        if wanted:
            self._channel.put_back(wanted)

    def abort(self, reason: str) -> None:
        """Wait for nothing more: what is not in force is queued again."""
        items = list(self.items)
        self._background.cancel()
        self._writing, self._pending = [], []
        self._lost.clear()
        self._channel.timer.cancel((self, "look"))
        self._channel.timer.cancel((self, "fill"))
        self._is_looking = False
        self._give_back(items)


def _reason_of(exc: Exception) -> str:
    """Return what is wrong, with the path where it is known: ``/a/rules.lock: Permission denied; ...``."""
    if isinstance(exc, TimeoutError) and not exc.strerror:
        return f"the disk took more than {_DISK_S:g} s"
    if not isinstance(exc, OSError) or not exc.strerror:
        return f"{type(exc).__name__}: {exc}"
    where = f"{exc.filename}: " if exc.filename else ""
    ours = "; the engine of this machine writes it, and needs its folder writable"
    return f"{where}{exc.strerror}{ours if exc.errno in _NOT_OURS else ''}"


def _request_of(item: Item) -> tuple[Operation, str]:
    share, index, _ = item
    return share.operation, share.task.targets[index]
