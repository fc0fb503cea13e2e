"""What the origins have: asked once for a target, for all nodes, through the guard."""

from __future__ import annotations

import asyncio
import math
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from engine.base.futures import settle_once
from engine.nodes.origin_guard import rule_for
from engine.proof.visitor import VisitError, origin_address

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from engine.config.tables import OriginConfig
    from engine.nodes.origin_guard import OriginGuard, OriginGuards
    from engine.proof.seen import Seen
    from engine.proof.visitor import Visitor

_KEPT_MAX: Final = 1024  #: answers
_GUARD_MAX_S: Final = 30.0  #: for which a read waits for its turn
_PAUSE_MAX_S: Final = 5.0  #: for which it waits while the origin is in trouble: it may be for long


class GuardedError(VisitError):
    """Nothing was asked: the guard of the origin lets nothing through for longer than the caller waits."""


class Origins:
    """Reads origins; who asks for the same at the same time shares the answer.

    Args:
        origins: of the configuration.
        guards: theirs.
        visitor: asks.
        pause_max_s: for which a read waits for the end of a pause of its guard.

    Raises:
        OSError: a CA file cannot be read.
    """

    def __init__(
        self,
        origins: Sequence[OriginConfig],
        guards: OriginGuards,
        visitor: Visitor,
        *,
        pause_max_s: float = _PAUSE_MAX_S,
    ) -> None:
        self._addresses = {origin.host: origin_address(origin) for origin in origins}
        self._rules = list(self._addresses)
        self._guards = guards
        self._visitor = visitor
        self._pause_max_s = pause_max_s
        self._asked: dict[tuple[str, str], tuple[float, asyncio.Task[Seen]]] = {}

    def has(self, host: str) -> bool:
        """Tell whether a target's host has an ``[[origin]]``."""
        return rule_for(host, self._rules) is not None

    async def read(self, target: str, accept_encoding: str = "", *, since: float) -> Seen:
        """Return what the origin has of a target whose host has one.

        Args:
            target: a URL in stored form.
            accept_encoding: as the visitor asked.
            since: `time.monotonic`; an answer that was asked for later, by whomever, will do.

        Raises:
            VisitError: it gives no answer; `GuardedError`: its guard lets nobody through.
        """
        key = (target, accept_encoding)
        known = self._asked.get(key)
        if known is not None and known[0] >= since and not _has_failed(known[1]):
            return await asyncio.shield(known[1])
        while len(self._asked) >= _KEPT_MAX:
            del self._asked[next(iter(self._asked))]
        work = asyncio.get_running_loop().create_task(self._read(target, accept_encoding))
        work.add_done_callback(look_at)
        self._asked.pop(key, None)
        self._asked[key] = (time.monotonic(), work)
        return await asyncio.shield(work)

    async def _read(self, target: str, accept_encoding: str) -> Seen:
        rule = rule_for(target.split("/", 3)[2], self._rules)
        assert rule is not None
        guard = self._guards.of(target.split("/", 3)[2])
        assert guard is not None
        await _pass(guard, self._pause_max_s)
        try:
            seen = await self._visitor.visit(self._addresses[rule], target, accept_encoding=accept_encoding)
        except VisitError as exc:
            guard.note(0, 0.0, target)
            raise VisitError(f"the origin: {exc}") from exc
        except asyncio.CancelledError:
            guard.note_untold()
            raise
        guard.note(seen.status, seen.first_byte_s, target)
        return seen


async def look_through(
    guards: OriginGuards,
    target: str,
    visit: Callable[[], Awaitable[Seen]],
    *,
    pause_max_s: float = _PAUSE_MAX_S,
) -> Seen:
    """Visit a node when the guard of the target's origin lets that through.

    The guard is told nothing of the answer: the cache may have had it, or an error may be the node's own.

    Raises:
        VisitError: of *visit*; `GuardedError`: the guard would take long, or pauses for *pause_max_s*.
    """
    guard = guards.of(target.split("/", 3)[2])
    if guard is None:
        return await visit()
    await _pass(guard, pause_max_s)
    try:
        return await visit()
    finally:
        guard.note_untold()


async def _pass(guard: OriginGuard, pause_max_s: float) -> None:
    """Wait until a guard lets one fetch through.

    Raises:
        GuardedError: that would take long.
    """
    began = time.monotonic()
    while not guard.take():
        wait_s = guard.wait_s()
        most_s = min(_GUARD_MAX_S, pause_max_s) if guard.reason else _GUARD_MAX_S
        left_s = began + most_s - time.monotonic()
        is_trial = bool(guard.reason) and not guard.pauses_s  # which mostly ends long before its limit
        if left_s <= 0 or (wait_s > left_s and not is_trial):
            raise GuardedError(_held(guard, wait_s))
        await _opened(guard, min(wait_s, left_s))


def _held(guard: OriginGuard, wait_s: float) -> str:
    """Say why a guard lets nothing through, and for how long."""
    if not guard.reason:
        return f"prefetch_per_s of the origin leaves no room for another fetch for {math.ceil(wait_s)} s"
    if guard.pauses_s:
        return f"the origin {guard.reason}, and is left alone for {math.ceil(guard.pauses_s)} s more"
    return f"the origin {guard.reason}, and is being tried"


async def _opened(guard: OriginGuard, wait_s: float) -> None:
    """Wait until a guard says that it is worth while to ask again, or for so long."""
    opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    tell = partial(settle_once, opened, None)
    guard.on_open.add(tell)
    try:
        await asyncio.wait({opened}, timeout=wait_s)
    finally:
        guard.on_open.discard(tell)


def _has_failed(work: asyncio.Task[Seen]) -> bool:
    return work.done() and (work.cancelled() or work.exception() is not None)


def look_at(work: asyncio.Task[Seen]) -> None:
    """Take a failure that nobody waits for any more, so that the loop does not complain of it."""
    if not work.cancelled():
        work.exception()
