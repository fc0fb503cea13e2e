"""What the desk of a node does with pieces that the child knows nothing of, or did for something else."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from engine.intake.task_body import decode, digest_of
from engine.observe.counters import Stats
from engine.tasks.by_target import name_of
from engine.tasks.plan import Note, Skipped
from engine.tasks.task import Share, Task
from engine.tasks.words import CANCELLED, LAST, LATE, Operation
from engine.tree import lost, words
from engine.tree.desk import Desk
from engine.tree.link import LinkError, RefusedError, Said
from engine.tree.piece import Piece
from engine.tree.words import ASK, CANCEL, VERSION, Answer, Report
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
        self.on_done: Any = lambda: None

    def settled(self, piece: Piece, places: Sequence[int], *, is_absent: bool) -> None:
        self.on_done()
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
        self.version = VERSION
        self.is_reloaded = False  #: a worker of the version before answers still
        self.cancels_all = False  #: somebody there does
        self.refuses: dict[str, Any] = {}  #: what is answered to each line; nothing: it is taken

    async def post(self, where: str, body: bytes, **_: Any) -> Said:
        await asyncio.sleep(0)
        if where == CANCEL and self.is_reloaded:
            raise RefusedError("refused: it has no such route")
        if where == CANCEL:
            self.cancelled += msgspec.json.decode(body)["tasks"]
            return Said(b'{"cancelled": 1}', "")
        if where == ASK:
            asked = msgspec.json.decode(body)["tasks"]
            told = [self.reports[name] for name in asked if name in self.reports]
            unknown = [name for name in asked if name not in self.reports]
            return Said(msgspec.json.encode(Answer(self.version, "eu", "1", 0, told, unknown)), "")
        lines = body.splitlines()
        names = [msgspec.json.decode(line)["id"] for line in lines]
        self.handed += names
        self.on_taken()
        for line, name in zip(lines, names, strict=True) if self.cancels_all else ():
            one = Report(name, "c", "cancelled", 2, 2, 1, cancelled=1)
            one.digest, one.name = (
                digest_of(decode(line)).hex(),
                name_of("purge", "url", URLS, is_soft=False),
            )
            self.reports[name] = one
        if self.cuts:
            self.cuts -= 1
            raise LinkError("cut", is_sick=False)
        if self.refuses:
            return Said(b"\n".join([msgspec.json.encode(self.refuses)] * len(names)), "")
        return Said(b"\n".join([b'{"task_id": "%s"}' % name.encode() for name in names]), "")

    async def cancel(self, handed_id: str) -> None:
        self.cancelled.append(f"DELETE {handed_id}")


class Place:
    async def path_of(self, before: str) -> str:
        return "root~k"


def desk_of(child: Child, **extra: Any) -> tuple[Desk, Stats]:
    kept: list[str] = []
    keeping = SimpleNamespace(
        keep_below=lambda _, reason: kept.append(reason), unreadable=lambda _, reason: kept.append(reason)
    )
    health = SimpleNamespace(is_down=False, answered=lambda: None, connect_wait_s=lambda: 0.0)
    node: Any = SimpleNamespace(
        name="eu",
        config=SimpleNamespace(url="http://eu"),
        health=health,
        postponed=[],
        failed=lambda *_, **__: 0,
        keeping=keeping,
        unacked=lambda *_: 1 / 0,  # nothing fails here
        kept=kept,
    )
    stats = Stats()
    link: Any = child
    place: Any = Place()
    desk = Desk(node, link, place, stats, **extra)
    desk.questions.note_version(child.version)
    return desk, stats


def piece_of(task_id: str, *, row_s: float | None = None, late: str = LATE) -> tuple[Piece, Way]:
    """Return a piece of a whole task; with *row_s*, of rows of it that are so old."""
    owner: Any = None if row_s is None else object()
    task = Task.internal(list(URLS), owner=owner, task_id=task_id if row_s is None else f"{late}{task_id}")
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


def kept_of(desk: Desk) -> list[str]:
    node: Any = desk._node
    return node.kept  # type: ignore[no-any-return]


async def test_what_somebody_cancelled_in_the_region_is_held_and_goes_down_again_under_other_ids() -> None:
    """Its rows failed, though no client of the root had cancelled it."""
    child = Child()
    desk, _ = desk_of(child)
    first, _ = piece_of("t-1")
    child.cancels_all = True
    desk.take([first])
    await until(lambda: first.is_over)
    assert child.handed == ["t-1"]
    assert kept_of(desk) == [
        "held below: eu: task t-1 was cancelled there; it is handed down once more",
    ]
    ids = []
    for _ in range(3):  # its rows, again and again, and each part is cancelled there, too
        late, _ = piece_of("t-1", row_s=1)
        late.share.task.created_at = 5.0
        desk.take([late])
        await until(lambda late=late: late.is_over)  # type: ignore[misc]
        ids.append(late.id)
    desk.close()
    assert child.handed == ["t-1", *ids]
    assert len(set(ids)) == 3
    assert len(kept_of(desk)) == 4


async def test_rows_whose_task_was_cancelled_wait_first_for_a_cancel_that_may_be_from_here() -> None:
    """By another engine of this place: its rows have gone when these are asked for again."""
    child = Child()
    desk, _ = desk_of(child)
    late, _ = piece_of("t-1", row_s=1)
    child.reports["t-1"] = Report("t-1", "c", "cancelled", 2, 2, 1, cancelled=1, name=late.name, age_s=1)
    desk.take([late])
    await until(lambda: late.is_over)
    desk.close()
    assert (child.handed, len(kept_of(desk))) == ([], 1)


@pytest.mark.parametrize(
    ("version", "is_reloaded", "said"),
    [(VERSION, False, ["t-1"]), (1, False, ["DELETE t-1"]), (VERSION, True, ["DELETE t-1"])],
)
async def test_a_child_of_the_version_before_is_told_of_cancels_as_it_knows_them(
    version: int, is_reloaded: bool, said: list[str]
) -> None:
    child = Child()
    child.version, child.is_reloaded = version, is_reloaded
    desk, _ = desk_of(child)
    piece, _ = piece_of("t-1")
    desk.cancel(piece.share, [])
    await until(lambda: child.cancelled)
    desk.close()
    assert child.cancelled == said


@pytest.mark.parametrize(("is_old", "said"), [(False, ["t-1"]), (True, ["DELETE t-1"])])
async def test_a_child_that_has_not_told_its_version_is_asked_to_cancel_all_parts(
    is_old: bool, said: list[str]
) -> None:
    """Who had asked it nothing told it of the task alone: parts that others had handed it stayed."""
    child = Child()
    child.is_reloaded = is_old
    desk, _ = desk_of(child)
    desk.questions.version = 0
    desk.taking_back.take("t-1", [Operation.PURGE_URL])
    await until(lambda: child.cancelled)
    desk.close()
    assert child.cancelled == said


async def test_a_line_that_an_older_child_cannot_read_is_kept_and_fails_nothing() -> None:
    child = Child()
    child.refuses = {"status": 400, "detail": "no JSON of mine"}
    desk, _ = desk_of(child)
    piece, _ = piece_of("t-1")
    desk.take([piece])
    await until(lambda: piece.is_over)
    desk.close()
    assert kept_of(desk) == ["refused: eu answered 400: no JSON of mine"]


async def test_what_came_later_than_the_childs_version_is_not_sent_and_not_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(words.SINCE, "due_s", VERSION)
    child = Child()
    child.version = VERSION - 1
    desk, _ = desk_of(child)
    desk.questions.version = 0
    new, plain = piece_of("t-1")[0], piece_of("t-2", row_s=1)[0]
    new.share.task.due_s = 30
    desk.take([new])
    assert not new.is_over, "nobody knows yet which version the child speaks"
    desk.take([plain])
    await until(lambda: new.is_over and child.handed)
    [reason] = kept_of(desk)
    assert reason.startswith(
        f"held: eu speaks version {VERSION - 1} of the tree's protocol, and 'due_s' came"
    )
    assert {name.partition("~")[0] for name in child.handed} == {"t-2"}
    child.version = VERSION
    desk.questions.note_version(VERSION)
    again, _ = piece_of("t-1")
    desk.take([again])
    await until(lambda: "t-1" in child.handed)
    desk.close()


@pytest.mark.parametrize("state", ["done", "partial", "running", "cancelled", ""])
async def test_rows_that_waited_too_long_are_asked_for_once_and_never_handed_down(state: str) -> None:
    child = Child()
    desk, _ = desk_of(child)
    piece, way = piece_of("t-1", row_s=1, late=LAST)
    if state:
        acked = 2 if state == "done" else 1
        at_work = 1 if state == "running" else 0
        told = Report("t-1", "x", state, 2, 2, acked, delayed=2 - acked - at_work, at_work=at_work)
        told.name, told.age_s = piece.name, 1
        child.reports["t-1"] = told
    desk.take([piece])
    await until(lambda: piece.is_over)
    desk.close()
    assert child.handed == []
    done = ([], URLS) if state == "done" else (["eu has not done it"] * 2, [])
    assert (kept_of(desk), way.done) == done


async def test_what_is_left_out_below_is_told_before_a_task_is_done() -> None:
    child = Child()
    desk, _ = desk_of(child)
    piece, way = piece_of("t-1")
    told = Report("t-1", "x", "done", 2, 2, 2, digest=piece.digest)
    told.skipped = [Skipped("fr/squid-1", "squid, cannot purge by regex"), Skipped("no name\n", "x")]
    told.notes = [Note(("edge-1",), "purged hard"), Note((), "of nobody")]
    child.reports["t-1"] = told
    seen: list[Any] = []
    way.on_done = lambda: seen.append(piece.share.task.lower)
    desk.take([piece])
    await until(lambda: way.done)
    desk.close()
    [lower] = seen
    assert lower["eu"].skipped == [Skipped("eu/fr/squid-1", "squid, cannot purge by regex")]
    assert lower["eu"].notes == [Note(("eu/edge-1",), "purged hard")]
