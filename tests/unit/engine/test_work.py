"""What one batch holds: split when it is large, put together again when it failed."""

from __future__ import annotations

from engine.saver.work import Work, take_accepted
from engine.tasks.records import Batch, Callback, Parked
from engine.tasks.task import Task


def task(name: str, body: bytes = b"{}") -> Task:
    made = Task.internal(["http://a/"], owner=None, task_id=name)
    made.body = body
    return made


def row(task_id: str) -> Parked:
    return Parked("n", 1, "http://a/", task_id, "", 1.0)


def work_of(*names: str) -> Work:
    """A work that saves a document for each of these tasks."""
    work = Work()
    for name in names:
        work.batch.documents[name] = name.encode()
        work.saved.append((task(name), 1))
        work.records += 1
    return work


def saved(work: Work) -> list[str]:
    return [saved_task.id for saved_task, _ in work.saved]


def test_accepted_tasks_become_records() -> None:
    work, accepted = Work(), task("a", b"body")
    accepted.token, accepted.digest, accepted.due_s = "name", b"d", 5.0
    work.accept([accepted])
    [record] = work.batch.accepted
    assert (record.id, record.body, record.token, record.digest, record.due_s) == (
        "a",
        b"body",
        "name",
        b"d",
        5.0,
    )
    assert work.batch.is_accept_only


def test_a_task_whose_document_is_saved_twice_is_told_once() -> None:
    work = work_of("a", "b")
    assert [one.id for one in work.tasks_saved()] == ["a", "b"]
    work.saved.append((work.saved[0][0], 2))
    assert [one.id for one in work.tasks_saved()] == ["a", "b"]


def test_a_work_of_few_documents_is_not_split() -> None:
    work = work_of("a", "b")
    part, rest = work.split()
    assert part is work
    assert rest.records == 0


def test_of_many_documents_the_first_go_with_their_callbacks_and_rows() -> None:
    names = [f"t{number}" for number in range(4001)]
    work = work_of(*names)
    work.batch.callbacks = [Callback(0, name, "http://c/", "{}") for name in (names[0], names[-1])]
    work.batch.parked = [row(names[-1]), row(names[1])]
    work.records += 4
    part, rest = work.split()
    assert list(part.batch.documents) == saved(part) == names[:4000]
    assert list(rest.batch.documents) == saved(rest) == names[4000:]
    assert [callback.task_id for callback in part.batch.callbacks] == [names[0]]
    assert [callback.task_id for callback in rest.batch.callbacks] == [names[-1]]
    assert [parked.task_id for parked in part.batch.parked] == [names[1]]
    assert (part.records, rest.records) == (4001, 4)


def test_all_else_stays_with_the_last_documents() -> None:
    """A journal row may only be dropped after the documents of its tasks."""
    work = work_of(*(f"t{number}" for number in range(4001)))
    done: list[str] = []
    work.batch.settled_journal = [7]
    work.then = [(lambda: done.append("written"), frozenset())]
    work.is_trim = True
    part, rest = work.split()
    assert part.batch.settled_journal == []
    assert (part.then, part.is_trim) == ([], False)
    assert rest.batch.settled_journal == [7]
    assert len(rest.then) == 1
    assert rest.is_trim


def test_what_failed_goes_back_with_what_came_since_behind_it() -> None:
    failed, later = work_of("a"), work_of("b")
    failed.accept([task("client")])
    failed.batch.settled_journal, later.batch.settled_journal = [1], [2]
    failed.batch.parked, later.batch.parked = [row("a")], [row("b")]
    failed.forget_before, later.forget_before = 5.0, 3.0
    later.is_trim = True
    again = failed.followed_by(later)
    assert (again.accepted, again.batch.accepted) == ([], [])
    assert again.batch.settled_journal == [1, 2]
    assert [parked.task_id for parked in again.batch.parked] == ["a", "b"]
    assert saved(again) == ["a", "b"]
    assert (again.records, again.forget_before, again.is_trim) == (2, 5.0, True)


def test_a_newer_document_of_a_task_wins_and_what_failed_goes_last() -> None:
    failed, later = work_of("a", "b"), work_of("c")
    later.batch.documents["a"] = b"newer"
    again = failed.followed_by(later)
    assert list(again.batch.documents.items()) == [("c", b"c"), ("a", b"newer"), ("b", b"b")]


def test_of_a_work_that_was_written_in_part_the_rest_is_taken() -> None:
    work = work_of("written", "unwritten")
    work.then = [(lambda: None, frozenset())]
    left = Batch(documents={"unwritten": b"d"}, settled_journal=[1], callbacks=[Callback(1, "x", "", "")])
    unwritten = work.take_unwritten(left, set())
    assert saved(work) == ["written"]
    assert saved(unwritten) == ["unwritten"]
    assert (len(work.then), len(unwritten.then)) == (0, 1)  # told only when all of it is written
    assert unwritten.batch is left
    assert unwritten.records == 4


def test_only_who_would_find_rows_undone_waits_for_those_that_are_unwritten() -> None:
    work = work_of("a")
    told = [(lambda: None, frozenset([name])) for name in ("written", "stuck", "unreadable")]
    work.then = list(told)
    unwritten = work.take_unwritten(Batch(unparked_tasks=["stuck", "unreadable"]), {"stuck"})
    assert work.then == [told[0], told[2]]
    assert unwritten.then == [told[1]]


def test_with_nothing_unwritten_nothing_is_taken() -> None:
    work = work_of("a")
    work.then = [(lambda: None, frozenset())]
    assert work.take_unwritten(None, set()).records == 0
    assert saved(work) == ["a"]
    assert len(work.then) == 1


def test_a_probe_is_not_written_again() -> None:
    work = work_of("a")
    work.batch.is_probe = True
    work.records += 1
    work.drop_probe()
    work.drop_probe()
    assert (work.batch.is_probe, work.records) == (False, 1)


def test_a_batch_takes_a_bounded_number_of_accepted_tasks() -> None:
    waiting = [task(str(number)) for number in range(5001)]
    assert len(take_accepted(waiting)) == 5000
    assert [left.id for left in waiting] == ["5000"]


def test_a_batch_takes_a_bounded_number_of_bytes_and_at_least_one_task() -> None:
    large = b"x" * (20 * 1024 * 1024)
    waiting = [task("a", large), task("b", large), task("c")]
    assert [taken.id for taken in take_accepted(waiting)] == ["a"]
    assert [taken.id for taken in take_accepted(waiting)] == ["b", "c"]
    huge = [task("d", large * 2), task("e")]
    assert [taken.id for taken in take_accepted(huge)] == ["d"]
