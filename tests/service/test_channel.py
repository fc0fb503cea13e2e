"""Connections are opened as there is work, kept, and closed together."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tests.fakes.node import OK, Act, FakeNode, Request
from tests.rigs.delivery_rig import rig_of
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


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
