"""What is asked of a child when: which pieces go into a question, and who waits for whom."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import msgspec

from engine.observe.counters import Stats
from engine.tasks.task import Share, Task
from engine.tasks.words import Operation
from engine.tree.link import Said
from engine.tree.piece import Piece
from engine.tree.questions import Questions, rest_of
from engine.tree.words import IDS_MAX, Answer, Report
from tests.waiting import until


class Child:
    """Answers each question when it is told to, with reports of what is over, or with what it is given."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.over: set[str] = set()
        self.running: set[str] = set()
        self.seen: Any = lambda: "running"
        self._answers = asyncio.Event()

    def answer(self) -> None:
        """Have the questions answered that wait."""
        self._answers.set()
        self._answers = asyncio.Event()

    async def post(self, _where: str, body: bytes, **_: Any) -> Said:
        names = list(msgspec.json.decode(body)["tasks"])
        self.asked.append(names)
        await self._answers.wait()
        told = [Report(name, "over", "done", 1, 1, acked=1) for name in names if name in self.over]
        told += [
            Report(name, self.seen(), "running", 1, 1, at_work=1) for name in names if name in self.running
        ]
        return Said(msgspec.json.encode(Answer(1, "eu", "1", 0, told)), "")


class Acts:
    """Settles what is over."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.on_done: Any = lambda: None

    def told(self, piece: Piece, report: Report) -> None:
        piece.seen = report.seen
        if report.acked:
            piece.is_over = True
            self.done.append(piece.id)
            self.on_done()


def questions_of(child: Child, acts: Acts) -> Questions:
    async def path_of(_before: str) -> str:
        return "root~k"

    health = SimpleNamespace(is_down=False, answered=lambda: None, connect_wait_s=lambda: 0.0)
    config = SimpleNamespace(url="http://eu")
    node: Any = SimpleNamespace(
        name="eu", config=config, health=health, postponed=[], failed=lambda *_, **__: 0
    )
    link: Any = child
    place: Any = SimpleNamespace(path_of=path_of)
    told: Any = acts
    return Questions(node, link, place, told, Stats())


def piece_of(name: str, *, age_s: float = 0.0) -> Piece:
    share = Share(Task.internal(["http://a/1"], owner=None, task_id=name), None, Operation.PURGE_URL, 1)  # type: ignore[arg-type]
    way: Any = None
    return Piece(way, share, [0], "", now=time.monotonic() - age_s, late_slack_s=100)


async def test_a_question_has_what_waits_and_nothing_is_in_two_of_them() -> None:
    child, acts = Child(), Acts()
    questions = questions_of(child, acts)
    names = [f"t-{number}" for number in range(2 * IDS_MAX + 1)]
    for name in names:
        questions.add(piece_of(name))
    await until(lambda: len(child.asked) == 3)
    assert [len(asked) for asked in child.asked] == [IDS_MAX, IDS_MAX, 1]
    assert [name for asked in child.asked for name in asked] == names
    child.over |= set(names)
    child.answer()
    await until(lambda: len(acts.done) == len(names))
    assert len(questions) == 0
    questions.close()


async def test_who_has_nothing_that_takes_long_asks_no_question_more_than_it_has_to() -> None:
    """An empty one was asked beside that of each task."""
    child, acts = Child(), Acts()
    questions = questions_of(child, acts)
    for name in ("a", "b", "c"):
        questions.add(piece_of(name))
        await until(lambda: child.asked)
        child.over.add(name)
        child.answer()
        await until(lambda: not len(questions))
        assert child.asked == [[name]]
        child.asked.clear()
    questions.close()


async def test_what_takes_long_is_asked_for_apart_from_what_is_new() -> None:
    child, acts = Child(), Acts()
    questions = questions_of(child, acts)
    child.running.add("slow")
    questions.add(piece_of("slow", age_s=1))
    await until(lambda: child.asked == [["slow"]])
    child.answer()
    await until(lambda: len(child.asked) == 2)
    questions.add(piece_of("new"))
    await until(lambda: child.asked[2:] == [["new"]])
    questions.close()


async def test_a_piece_that_comes_while_the_last_answer_is_read_is_asked_for() -> None:
    """Rows come when others have left: their question had ended, and counted as under way for a turn more."""
    child, acts = Child(), Acts()
    questions = questions_of(child, acts)
    names = iter(f"row-{number}" for number in range(5))

    def come() -> None:
        name = next(names, None)
        if name is not None:
            piece = piece_of(name)
            piece.is_asked_first = True
            child.over.add(name)
            questions.add(piece)

    acts.on_done = lambda: asyncio.get_running_loop().call_soon(come)
    come()
    for number in range(5):
        await until(lambda: len(child.asked) == number + 1, "its question")  # noqa: B023
        child.answer()
    await until(lambda: len(acts.done) == 5)
    questions.close()


async def test_a_child_whose_reports_settle_nothing_is_not_asked_as_fast_as_it_answers() -> None:
    """Each of its answers had another mark: it was asked some hundred times a second."""
    child, acts = Child(), Acts()
    child.seen = lambda: f"{len(child.asked)}"
    child._answers.set()
    questions = questions_of(child, acts)
    child.running.add("a")
    began = time.monotonic()
    questions.add(piece_of("a", age_s=1))
    await until(lambda: len(child.asked) > 8)
    assert time.monotonic() - began > sum(rest_of(count) for count in range(1, 9)) > 0.7
    child.over.add("a")
    await until(lambda: acts.done)
    questions.close()


def test_pauses_grow_and_end() -> None:
    assert [rest_of(count) for count in (0, 3, 4, 5, 6, 100)] == [0.0, 0.0, 0.05, 0.1, 0.2, 0.2]
