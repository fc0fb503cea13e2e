"""One connection: alone first, then a pipeline; answers in order, whatever the pieces."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tests.fakes.node import OK, Act, FakeNode, Request, answer
from tests.rigs.delivery_rig import rig_of
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def urls(count: int) -> list[str]:
    return [f"http://a.com/{number}" for number in range(count)]


async def test_the_first_request_goes_alone_until_it_is_answered(tmp_path: Path) -> None:
    gate = threading.Event()

    def held(request: Request) -> Iterable[bytes | Act]:
        assert gate.wait(60)
        yield OK

    with FakeNode(held) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, connections_per_node=1) as rig:
            task = rig.submit(targets=urls(50))
            await until(lambda: edge.requests)
            assert rig.node("edge-1").in_flight == 1
            gate.set()
            await rig.stored(task, "done")
            assert edge.urls == urls(50)
            assert edge.connections == 1


async def test_no_more_than_the_depth_is_in_flight(tmp_path: Path) -> None:
    gate = threading.Event()

    def held(request: Request) -> Iterable[bytes | Act]:
        if request.place > 1:
            assert gate.wait(60)
        yield OK

    with FakeNode(held) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, connections_per_node=1, pipeline_depth=8) as rig:
            task = rig.submit(targets=urls(50))
            await until(lambda: rig.node("edge-1").in_flight == 8)
            gate.set()
            await rig.stored(task, "done")


async def test_answers_in_small_pieces_belong_to_their_requests(tmp_path: Path) -> None:
    def dribble(request: Request) -> Iterable[bytes | Act]:
        data = answer(200 if int(request.path[1:]) % 2 else 400, b"body")
        for start in range(0, len(data), 7):
            yield data[start : start + 7]

    with FakeNode(dribble) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            found = await rig.stored(rig.submit(targets=urls(40)), "failed")
            assert (found["counter"], found["failed"]) == (20, 20)
            assert {error["target"] for error in found["errors"]} == set(urls(40)[::2])


async def test_a_body_without_length_ends_with_the_connection(tmp_path: Path) -> None:
    endless = b"HTTP/1.1 200 OK\r\n\r\nsome body"
    with FakeNode(lambda request: [endless, Act.CLOSE]) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            await rig.stored(rig.submit(targets=urls(5)), "done")
            assert edge.connections == 5


async def test_an_answer_cut_short_is_asked_for_again(tmp_path: Path) -> None:
    cut = {"left": 1}

    def short(request: Request) -> Iterable[bytes | Act]:
        if request.path == "/3" and cut["left"]:
            cut["left"] -= 1
            yield answer(200, b"x" * 100)[:-50]
            yield Act.CLOSE
        else:
            yield OK

    with FakeNode(short) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, connections_per_node=1) as rig:
            await rig.stored(rig.submit(targets=urls(10)), "done")
            assert edge.urls.count("http://a.com/3") == 2
