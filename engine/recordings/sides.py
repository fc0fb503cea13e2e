"""Plays a recording at two engines in alternating slices, and asks both what became of the tasks."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import aiohttp
import msgspec

from engine.recordings.comparison import Comparison, Result, SideReport
from engine.recordings.gor import REQUEST
from engine.recordings.player import Player

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from engine.recordings.comparison import Twins
    from engine.recordings.gor import Entry
    from engine.recordings.rewriting import Rewriting

_QUEUES: Final = ("input_task_queue", "pushing_queue", "saver_queue")  #: of GET /v1/engine/stats
_SETTLE_S: Final = 10.0  #: for the tasks of a slice, and again for the results of all
_POLL_S: Final = 0.02
_ASKED_AT_ONCE: Final = 8
_OK: Final = 200


class Part(NamedTuple):
    """What a slice has of one pass over a recording."""

    number: int  #: of the pass
    entries: list[Entry]


class Slice(NamedTuple):
    """A part of a recording that is played again and again."""

    parts: list[Part]
    requests: int


class Side:
    """One of the two engines.

    Args:
        url: of it.
        rewriting: makes requests that may be sent to it.
        token: that it is asked with; empty: none.
        options: of `Player`.
    """

    def __init__(self, url: str, rewriting: Rewriting, *, token: str, **options: Any) -> None:
        self.report = SideReport()
        self.player = Player(url, rewriting, self.report, **options)
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def play(self, session: aiohttp.ClientSession, slice_: Slice) -> None:
        """Send a slice, and wait until its tasks have settled, or `_SETTLE_S`.

        Raises:
            RecordingError: there is no engine.
        """
        for part in slice_.parts:
            await self.player.play(iter(part.entries), part.number)
        until = time.monotonic() + _SETTLE_S
        while time.monotonic() < until:
            stats = await self._get(session, "/v1/engine/stats")
            if not any(stats.get(queue) for queue in _QUEUES):
                return
            await asyncio.sleep(_POLL_S)

    async def result_of(self, session: aiohttp.ClientSession, task_id: str, until: float) -> Result:
        """Return what became of a task; what it has come to where it does not settle in time."""
        while True:
            document = await self._get(session, f"/v1/engine/task/{task_id}")
            if not document.get("active") or time.monotonic() > until:
                break
            await asyncio.sleep(_POLL_S)
        try:
            return msgspec.convert({**document, "delayed": document.get("delayed", 0)}, Result)
        except msgspec.ValidationError:
            return Result(state="not told")

    async def _get(self, session: aiohttp.ClientSession, path: str) -> dict[str, Any]:
        """Return a document; an empty one where there is none."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
            async with session.get(self._url + path, headers=self._headers) as response:
                document = msgspec.json.decode(await response.read())
                if response.status == _OK and isinstance(document, dict):
                    return document
        return {}


async def compare(
    engine: Side, beside: Side, slices: Iterable[Slice], on_slice: Callable[[int, dict[str, float]], None]
) -> Comparison:
    """Play the slices at both, turn about; return how they differ.

    Args:
        engine: that is tried.
        beside: that it is compared with.
        slices: of the recording.
        on_slice: told of each slice that is over, with its number and its latencies; at the end with 0,
            before the results of tasks are read.

    Raises:
        RecordingError: an engine is not there, or the recording cannot be read.
    """
    comparison = Comparison(engine.report, beside.report)
    timeout = aiohttp.ClientTimeout(total=_SETTLE_S)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        engine.player.connected(),
        beside.player.connected(),
    ):
        for number, slice_ in enumerate(slices, start=1):
            for side in (beside, engine) if number % 2 else (engine, beside):
                await side.play(session, slice_)
            on_slice(number, comparison.end_slice())
        on_slice(0, {})
        await _take_results(comparison, session, engine, beside)
    return comparison


async def _take_results(
    comparison: Comparison, session: aiohttp.ClientSession, engine: Side, beside: Side
) -> None:
    """Ask both engines what became of the tasks, some at a time."""
    left = iter(comparison.twins)
    until = time.monotonic() + _SETTLE_S

    async def ask(twins: Twins) -> None:
        ours, other = await asyncio.gather(
            engine.result_of(session, twins.engine, until), beside.result_of(session, twins.beside, until)
        )
        comparison.take_results(twins, ours, other)

    while some := list(islice(left, _ASKED_AT_ONCE)):
        await asyncio.gather(*map(ask, some))


def slices_of(
    read: Callable[[], Iterator[Entry]], size: int, *, limit: int = 0, loops: bool = False
) -> Iterator[Slice]:
    """Yield a recording in slices of *size* requests, with the answers that stand among them.

    Args:
        read: gives its entries, again for each pass.
        size: requests of a slice, which may go on with the next pass; the last one may have less.
        limit: requests of all slices; 0: any.
        loops: begin anew at its end; then there is a limit.

    Raises:
        RecordingError: the recording cannot be read.
    """
    parts: list[Part] = []
    count = requests = 0  # of all slices, and of the one that is being filled
    for number in itertools.count():
        before = count
        parts.append(Part(number, []))
        for entry in read():
            if entry.kind == REQUEST:
                if limit and count == limit:
                    yield Slice(parts, requests)
                    return
                if requests == size:
                    yield Slice(parts, requests)
                    parts, requests = [Part(number, [])], 0
                count, requests = count + 1, requests + 1
            parts[-1].entries.append(entry)
        if count == before or not loops:
            break
    if requests:
        yield Slice(parts, requests)
