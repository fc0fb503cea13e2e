"""What the desk of a node does with pieces that the child knows nothing of, or did for something else."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from engine.observe.counters import Stats
from engine.tasks.task import Share, Task
from engine.tasks.words import CANCELLED, LATE, Operation
from engine.tree import lost
from engine.tree.desk import Desk
from engine.tree.link import LinkError, Said
from engine.tree.piece import Piece
from engine.tree.words import ASK, Answer, Report
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.nodes.queue import Item

URLS = ["http://a.com/1", "http://a.com/2"]


class Way:
    """Notes what became of the targets of its pieces."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.gone: list[str] = []

    def settled(self, piece: Piece, places: Sequence[int], *, is_absent: bool) -> None:
        self.done += self._leave(piece, places)

    def taken(self, piece: Piece, places: Sequence[int]) -> list[Item]:
        items = piece.items_at(places)
        self._leave(piece, places)
        return items

    def given_up(self, piece: Piece, places: Sequence[int]) -> None:
        self.gone += self._leave(piece, places)

    def _leave(self, piece: Piece, places: Sequence[int]) -> list[str]:
        targets = [piece.target_at(place) for place in places]
        piece.left = [place for place in piece.left if place not in set(places)]
        piece.is_over = not piece.left
        return targets


class Child:
    """The engine behind a link: takes everything, and has a report of some tasks."""

    def __init__(self) -> None:
        self.handed: list[str] = []
        self.cancelled: list[str] = []
        self.reports: dict[str, Report] = {}
        self.cuts = 0  #: how many of the next answers are lost
        self.on_taken: Any = lambda: None

    async def post(self, where: str, body: bytes, **_: Any) -> Said:
        await asyncio.sleep(0)
        if where == ASK:
            asked = msgspec.json.decode(body)["tasks"]
            told = [self.reports[name] for name in asked if name in self.reports]
            unknown = [name for name in asked if name not in self.reports]
            return Said(msgspec.json.encode(Answer(1, "eu", "1", 0, told, unknown)), "")
        lines = body.splitlines()
        names = [msgspec.json.decode(line)["id"] for line in lines]
        self.handed += names
        self.on_taken()
        if self.cuts:
            self.cuts -= 1
            raise LinkError("cut", is_sick=False)
        return Said(b"\n".join([b'{"task_id": "%s"}' % name.encode() for name in names]), "")

    async def cancel(self, handed_id: str) -> None:
        self.cancelled.append(handed_id)


class Place:
    async def path_of(self, before: str) -> str:
        return "root~k"


def desk_of(child: Child, **extra: Any) -> tuple[Desk, Stats]:
    health = SimpleNamespace(is_down=False, answered=lambda: None, connect_wait_s=lambda: 0.0)
    node: Any = SimpleNamespace(
        name="eu",
        config=SimpleNamespace(url="http://eu"),
        health=health,
        postponed=[],
        failed=lambda *_, **__: 0,
    )
    stats = Stats()
    link: Any = child
    place: Any = Place()
    return Desk(node, link, place, stats, **extra), stats


def piece_of(task_id: str, *, row_s: float | None = None) -> tuple[Piece, Way]:
    """Return a piece of a whole task; with *row_s*, of rows of it that are so old."""
    owner: Any = None if row_s is None else object()
    task = Task.internal(list(URLS), owner=owner, task_id=task_id if row_s is None else f"{LATE}{task_id}")
    task.created_at = time.time()
    task.updated_at = time.time() - (row_s or 0)
    node: Any = SimpleNamespace(name="eu")
    share = Share(task, node, Operation.PURGE_URL, len(URLS))
    way = Way()
    return Piece(way, share, [0, 1], "", now=time.monotonic(), late_slack_s=100), way


async def test_what_a_child_took_and_does_not_know_gets_other_ids_after_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was handed down again and again under its id, as fast as the link goes."""
    monkeypatch.setattr(lost, "_PAUSE_S", 0.001)
    child = Child()
    desk, stats = desk_of(child)
    piece, way = piece_of("guess")
    desk.take([piece])
    await until(lambda: len(child.handed) >= 5)
    assert child.handed[:2] == ["guess", "guess"]
    assert len(set(child.handed[1:5])) == 4
    assert stats.tree_lost >= 4
    desk.close()
    assert way.gone == []
    assert [lost.pause_of(count) < lost.pause_of(count + 1) for count in (2, 3, 4)] == [True] * 3
    assert lost.pause_of(10_000) <= 60


async def test_what_was_cancelled_is_not_handed_down_again_when_it_is_unknown() -> None:
    child = Child()
    desk, _ = desk_of(child)
    piece, way = piece_of("t-1")

    def cancel() -> None:
        piece.share.states[:] = bytes([CANCELLED] * 2)
        desk.cancel(piece.share, [piece])

    child.on_taken = cancel
    desk.take([piece])
    await until(lambda: way.gone)
    await until(lambda: child.cancelled)
    desk.close()
    assert (child.handed, way.gone) == (["t-1"], URLS)


async def test_what_was_cancelled_while_its_request_was_cut_is_cancelled_there_and_not_sent_again() -> None:
    child = Child()
    child.cuts = 1
    desk, _ = desk_of(child)
    piece, way = piece_of("t-1")
    child.on_taken = lambda: piece.share.states.__setitem__(slice(None), bytes([CANCELLED] * 2))
    desk.take([piece])
    await until(lambda: way.gone and child.cancelled)
    desk.close()
    assert (child.handed, child.cancelled) == (["t-1"], ["t-1"])


@pytest.mark.parametrize("acked_ago_s", [100.0, 5.0])
async def test_rows_of_second_purges_are_not_settled_by_the_first_ones(acked_ago_s: float) -> None:
    child = Child()
    child.reports["t-1"] = Report("t-1", "x", "done", 2, 2, 2, age_s=101, acked_ago_s=acked_ago_s)
    desk, _ = desk_of(child, has_second=True)
    piece, way = piece_of("t-1", row_s=60)
    child.reports["t-1"].name = piece.name
    desk.take([piece])
    await until(lambda: way.done or child.handed)
    desk.close()
    if acked_ago_s < 60:
        assert (way.done, child.handed) == (URLS, [])
    else:
        assert way.done == []
        assert child.handed[0].startswith("t-1~")
