"""Writes prefetches that this engine begins and ends into the log of all engines; a group at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from engine.cluster.fetch_changes import Change
from engine.cluster.lanes import Lanes

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.cluster.fetch_changes import Begun
    from engine.cluster.threads import Threads
    from engine.store.redis.fetch_log import FetchLog

_AT_ONCE: Final = 500  #: prefetches in one text; many may have come while a part was away


class _Pending:
    """What is to be written into one part."""

    def __init__(self) -> None:
        self.began: list[tuple[Begun, Callable[[], None]]] = []
        self.ended: list[int] = []


class FetchWriter:
    """Writes; nothing that comes is dropped while a part of the log cannot be written.

    Args:
        log: of all engines.
        threads: where it is written.
        consumer: name of this engine process.
    """

    def __init__(self, log: FetchLog, threads: Threads, consumer: str) -> None:
        self._log = log
        self._threads = threads
        self._consumer = consumer
        self._pending: dict[int, _Pending] = {}
        self.lanes = Lanes(log.parts, self._write, set, lambda: None)

    def begin(self, part: int, begun: Begun, on_written: Callable[[], None]) -> None:
        """Write that a prefetch begins; *on_written* is called when others can read it."""
        self._pending.setdefault(part, _Pending()).began.append((begun, on_written))
        self.lanes.ask()

    def end(self, part: int, number: int) -> None:
        """Write that one has ended."""
        self._pending.setdefault(part, _Pending()).ended.append(number)
        self.lanes.ask()

    async def flush(self) -> None:
        """Write once what is left, for the end of the engine."""
        await self._write(set(self._pending), True)

    async def _write(self, parts: set[int], _answers: bool) -> set[int]:
        """Write what is pending in some parts; return those where nothing is left of it."""
        taken = {part: self._take(part) for part in parts if part in self._pending}
        if not taken:
            return parts
        texts = {part: self._text(pending) for part, pending in taken.items()}
        written: set[int] = set()
        try:
            written = await self._threads.call(self._log.append, texts)
        finally:
            self._put_back({part: pending for part, pending in taken.items() if part not in written})
        for part in written:
            for _, on_written in taken[part].began:
                on_written()
        return parts - (taken.keys() - written)

    def _take(self, part: int) -> _Pending:
        """Take what goes into one text. Ends wait for all begins: one of theirs may be among them."""
        pending = self._pending.pop(part)
        if len(pending.began) > _AT_ONCE:
            rest = self._pending[part] = _Pending()
            pending.began, rest.began = pending.began[:_AT_ONCE], pending.began[_AT_ONCE:]
            pending.ended, rest.ended = rest.ended, pending.ended
            self.lanes.ask()
        return pending

    def _text(self, pending: _Pending) -> bytes:
        began = [begun for begun, _ in pending.began]
        return msgspec.json.encode(Change(self._consumer, began, pending.ended))

    def _put_back(self, unwritten: dict[int, _Pending]) -> None:
        """Keep what was not written, or not surely: it is written again, before what came meanwhile."""
        for part, pending in unwritten.items():
            later = self._pending.get(part)
            if later is not None:
                pending.began += later.began
                pending.ended += later.ended
            self._pending[part] = pending
