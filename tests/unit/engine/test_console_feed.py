"""The stream of events: who gets what, and who is dropped."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from engine.console.feed import Feed, Viewer, chunk, event
from engine.console.picture import Picture

EVERY_S = 0.01


class Line:
    """A connection whose client reads, or does not."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.unread = 0
        self.reads = True
        self.is_gone = False

    def write(self, data: bytes) -> None:
        if self.is_gone:
            raise RuntimeError("unable to perform operation; the handler is closed")  # as uvloop's does
        self.written.append(data)
        if not self.reads:
            self.unread += len(data)

    def get_write_buffer_size(self) -> int:
        return self.unread

    def is_closing(self) -> bool:
        return self.is_gone

    def abort(self) -> None:
        self.is_gone = True

    @property
    def events(self) -> list[tuple[str, Any]]:
        blocks = b"".join(self.written).decode().split("\n\n")[:-1]
        lines = [block.split("\n") for block in blocks]
        return [
            (kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for kind, data in lines
        ]

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]


class World:
    """An engine that acks one more at each look."""

    def __init__(self, behind_max_s: float = 0.05) -> None:
        self.looks = 0
        self.is_draining = False
        self.fails = False
        self.is_blind = False
        self.feed = Feed(self.look, lambda: self.is_draining, every_s=EVERY_S, behind_max_s=behind_max_s)

    async def look(self, _before: Picture | None) -> Picture:
        if self.fails:
            raise RuntimeError("no look")
        self.looks += 1
        nodes = None if self.is_blind else [{"name": "edge-1", "acked": self.looks}]
        return Picture(float(self.looks), nodes, {}, {})

    def watch(self, *, is_chunked: bool = False) -> tuple[Line, Viewer]:
        line = Line()
        viewer = Viewer(line, is_chunked=is_chunked, now=asyncio.get_running_loop().time())
        self.feed.add(viewer)
        return line, viewer

    async def looked(self, more: int = 1) -> None:
        until = self.looks + more
        while self.looks < until:  # noqa: ASYNC110 - it is the loop that looks
            await asyncio.sleep(EVERY_S / 2)
        await asyncio.sleep(0)


async def test_a_viewer_gets_the_whole_and_then_what_changes() -> None:
    world = World()
    line, viewer = world.watch()
    await world.looked(3)
    assert line.kinds[:3] == ["whole", "change", "change"]
    assert line.events[1][1]["nodes"] == [{"name": "edge-1", "acked": 2}]
    world.feed.remove(viewer)


async def test_the_whole_is_told_again_once_the_nodes_are_known() -> None:
    """That they are none is another thing."""
    world = World()
    world.is_blind = True
    line, viewer = world.watch()
    await world.looked(2)
    world.is_blind = False
    await world.looked(3)
    kinds = [(kind, told.get("nodes") is None) for kind, told in line.events]
    assert kinds[:2] == [("whole", True), ("whole", True)]
    assert ("whole", False) in kinds
    assert kinds[-1][0] == "change"
    world.feed.remove(viewer)


async def test_all_viewers_are_told_of_one_look() -> None:
    world = World()
    lines = [world.watch()[0] for _ in range(200)]
    await world.looked(3)
    assert {len(line.written) for line in lines} == {world.looks}
    assert len({id(line.written[1]) for line in lines}) == 1  # the very same bytes


async def test_one_that_comes_later_sees_the_engine_at_once() -> None:
    world = World(behind_max_s=9)
    first, _ = world.watch()
    await world.looked(2)
    line, _ = world.watch()
    assert line.kinds == ["whole"]
    assert line.events[0][1]["at"] == first.events[-1][1]["at"]


async def test_one_that_reads_nothing_is_dropped_and_nothing_is_kept_for_it() -> None:
    world = World(behind_max_s=0.05)
    slow, viewer = world.watch()
    other, _ = world.watch()
    slow.reads = False
    await asyncio.wait_for(viewer.is_over, 5)
    assert slow.is_gone
    assert slow.kinds == ["whole"]
    assert len(world.feed) == 1
    await world.looked(2)
    assert other.kinds[-1] == "change"


async def test_one_that_was_behind_gets_the_whole_again() -> None:
    world = World(behind_max_s=9)
    line, _ = world.watch()
    await world.looked(2)
    line.unread = 1
    await world.looked(3)
    missed = len(line.written)
    line.unread = 0
    await world.looked(3)
    assert line.kinds[missed : missed + 2] == ["whole", "change"]


async def test_nothing_is_looked_at_when_nobody_watches() -> None:
    world = World()
    line, viewer = world.watch()
    await world.looked(1)
    line.is_gone = True
    await asyncio.wait_for(viewer.is_over, 5)
    await asyncio.sleep(EVERY_S)
    looks = world.looks
    await asyncio.sleep(EVERY_S * 4)
    assert (len(world.feed), world.looks) == (0, looks)


async def test_a_draining_engine_says_goodbye_and_ends_the_streams() -> None:
    world = World()
    line, viewer = world.watch()
    await world.looked(1)
    world.is_draining = True
    await asyncio.wait_for(viewer.is_over, 5)
    assert line.kinds[-1] == "bye"


async def test_one_that_has_just_gone_keeps_no_other_from_its_goodbye() -> None:
    """Else their requests would not end, and the engine could not."""
    world = World()
    seen = [world.watch() for _ in range(8)]
    await world.looked(1)
    world.is_draining = True
    seen[3][0].is_gone = True
    await asyncio.wait_for(asyncio.gather(*(viewer.is_over for _, viewer in seen)), 5)
    assert [line.kinds[-1] for line, _ in seen if not line.is_gone] == ["bye"] * 7


async def test_a_look_that_never_ends_does_not_hold_up_a_drain() -> None:
    world = World()
    world.look = lambda _before: asyncio.Event().wait()  # type: ignore[assignment,method-assign,return-value]
    world.feed = Feed(world.look, lambda: world.is_draining, every_s=EVERY_S)
    line, viewer = world.watch()
    world.is_draining = True
    await asyncio.wait_for(viewer.is_over, 5)
    assert line.kinds == ["bye"]


async def test_a_look_that_fails_ends_the_streams_so_that_pages_say_they_are_not_live() -> None:
    world = World()
    _, viewer = world.watch()
    await world.looked(1)
    world.fails = True
    await asyncio.wait_for(viewer.is_over, 5)
    world.fails = False
    line, _ = world.watch()
    await world.looked(1)
    assert line.kinds[0] == "whole"


async def test_chunks_are_those_of_http() -> None:
    world = World()
    line, _ = world.watch(is_chunked=True)
    await world.looked(1)
    size, _, rest = line.written[0].partition(b"\r\n")
    assert rest.endswith(b"\r\n")
    assert int(size, 16) == len(rest) - 2
    assert chunk(b"ab") == b"2\r\nab\r\n"
    assert event("hello", {"a": "x\ny"}) == b'event: hello\ndata: {"a":"x\\ny"}\n\n'
