"""Silences of alerts, in the store: they outlive every process, and all engines of one Redis keep them.

An embedded store is told by each worker, in each of its files. A shared store is looked at again and again.
A silence only ever becomes shorter: of two records of one that counts which ends sooner, in whatever order
they are read.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import msgspec
from loguru import logger

from engine.notify.formats import moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from engine.saver.pool import SaverPool
    from engine.saver.reader import StoreReader
    from engine.tasks.records import Silence

KEPT_S: Final = 86_400.0  #: so long a silence that is over can still be looked at
_WRITE_LIMIT_S: Final = 10.0


class Silences:
    """Knows the silences, and has the alerts of this process keep them.

    Args:
        savers: write them; *reader* reads them.
        on_change: takes all of them when one is new or has ended.
    """

    def __init__(
        self, savers: SaverPool, reader: StoreReader, on_change: Callable[[Iterable[Silence]], None]
    ) -> None:
        self._savers = savers
        self._reader = reader
        self._on_change = on_change
        self._known: dict[str, Silence] = {}
        self._looking = asyncio.Lock()  # what is read is not older than what is known

    def __repr__(self) -> str:
        return f"<Silences [{len(self.all())}]>"

    @property
    def is_shared(self) -> bool:
        """Whether other engines work with the same store."""
        return self._savers.savers[0].store.is_shared

    def all(self) -> list[Silence]:
        """Return those that go on, and those that ended within `KEPT_S`; the newest first."""
        since = time.time() - KEPT_S
        found = [one for one in self._known.values() if one.until > since]
        return sorted(found, key=lambda one: one.at, reverse=True)

    async def refresh(self) -> None:
        """Do as the store says.

        Raises:
            StoreError: the store cannot be read.
        """
        async with self._looking:
            await self._refresh()

    async def change(self, silence: Silence) -> Silence:
        """Begin a silence, or end one sooner; return it as it is from now on.

        Raises:
            StoreError: the store cannot be read or written; what was to begin ends in those files that took
                it, or take it later.
        """
        async with self._looking:
            await self._refresh()
            known = self._known.get(silence.id)
            if known is not None and known.until <= silence.until:
                return known
            old = [msgspec.structs.replace(one, matchers=[]) for one in self._known.values() if _is_old(one)]
            try:
                for saver in self._savers.savers:
                    saver.silence([*old, silence])
                    await saver.flushed(_WRITE_LIMIT_S)
            except BaseException:  # also when its client has gone
                if known is None:
                    self._withdraw(silence)
                raise
            for one in old:
                del self._known[one.id]
            self._apply([silence])
            return silence

    def _withdraw(self, silence: Silence) -> None:
        """Have a silence end that was not begun everywhere; writes are in order, so its end stands."""
        ended = msgspec.structs.replace(silence, until=min(silence.until, time.time()))
        for saver in self._savers.savers:
            saver.silence([ended])
        self._known[silence.id] = ended

    async def _refresh(self) -> None:
        found: dict[str, Silence] = {}
        for saver in self._savers.savers:
            for one in (await self._reader.read(saver.store.silences)).values():
                if one.id not in found or one.until < found[one.id].until:
                    found[one.id] = one
        now = time.time()
        lost = [one for name, one in self._known.items() if name not in found and one.until > now]
        if lost:  # the store was emptied
            for saver in self._savers.savers:
                saver.silence(lost)
        self._apply(found.values())

    def _apply(self, silences: Iterable[Silence]) -> None:
        """Take over what is new, and tell the alerts."""
        news = [one for one in silences if one.id not in self._known or one.until < self._known[one.id].until]
        if not news:
            return
        now = time.time()
        for one in news:
            self._known[one.id] = one
            what = f"alerts {', '.join(one.matchers)}"
            if one.until > now:
                logger.info("{} are silenced by {} until {}: {}", what, one.by, moment(one.until), one.reason)
            else:
                logger.info("{} are not silenced any more", what)
        self._on_change(self._known.values())


def _is_old(silence: Silence) -> bool:
    return silence.until < time.time() - KEPT_S
