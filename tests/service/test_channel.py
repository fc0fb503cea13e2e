"""Connections are opened as there is work, kept, and closed together."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from tests.fakes.node import OK, Act, FakeNode, Request
from tests.rigs.delivery_rig import rig_of
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from engine.nodes.register import Acks


def urls(count: int) -> list[str]:
    return [f"http://a.com/{number}" for number in range(count)]


async def test_a_connection_is_kept_for_the_next_task(tmp_path: Path) -> None:
    with FakeNode() as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            for _ in range(5):
                await rig.stored(rig.submit(targets=urls(1)), "done")
            assert edge.connections == 1


async def test_no_more_connections_are_opened_than_configured(tmp_path: Path) -> None:
    gate = threading.Event()

    def held(request: Request) -> Iterable[bytes | Act]:
        assert gate.wait(60)
        yield OK

    with FakeNode(held) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, connections_per_node=3, prefetch_concurrency=2) as rig:
            purges = rig.submit(targets=urls(300))
            fetches = rig.submit(action="prefetch", targets=urls(30))
            await until(lambda: rig.node("edge-1").in_flight == 5)
            gate.set()
            await rig.stored(purges, "done")
            await rig.stored(fetches, "done")
            assert edge.connections == 5


async def test_without_work_no_connection_is_opened(tmp_path: Path) -> None:
    with FakeNode() as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            rig.node("edge-1").purges.wake()
            assert await rig.saver.drain(60)
            assert edge.connections == 0
            assert "0/4 open" in repr(rig.node("edge-1").purges)


async def test_closing_leaves_what_waits_and_opens_nothing_more(tmp_path: Path) -> None:
    with FakeNode(lambda request: [Act.HANG]) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            rig.submit(targets=urls(5))
            await until(lambda: edge.requests)
            rig.node("edge-1").close()
            await until(lambda: rig.node("edge-1").in_flight == 0)
            assert rig.node("edge-1").waiting_count == 5
            assert len(list(rig.store.journal())) == 1


class HeldUp:
    """A register of all engines of which the part for one host is away for a while."""

    def __init__(self) -> None:
        self.held_up: list[Callable[[], None]] | None = []
        self.count = 0

    def enter(self, url: str, *_: object, on_entered: Callable[[], None], **__: object) -> int:
        if self.held_up is not None and url.startswith("away.com/"):
            self.held_up.append(on_entered)
        else:
            asyncio.get_running_loop().call_soon(on_entered)
        self.count += 1
        return self.count

    def end(self, number: int) -> None:
        """It is over."""

    def look(self, acks: Acks) -> None:
        acks.looked(acks.items, 0.0)


async def test_prefetches_that_cannot_be_entered_hold_up_no_others(tmp_path: Path) -> None:
    """A part of the log of prefetches may be away for hours; those of its hosts go when it is back."""
    register = HeldUp()
    with FakeNode() as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, prefetch_concurrency=2) as rig:
            rig.node("edge-1").share(register)
            away = rig.submit(action="prefetch", targets=[f"http://away.com/{n}" for n in range(5)])
            await until(lambda: register.held_up)
            await rig.stored(rig.submit(action="prefetch", targets=urls(5)), "done")
            assert len(edge.requests) == 5
            waiting, register.held_up = register.held_up or [], None
            for entered in waiting:
                entered()
            await rig.stored(away, "done")
            assert len(edge.requests) == 10
