"""What is handed down, and under which id: the same for the same share, and never another body."""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest

from engine.intake.task_body import decode, digest_of
from engine.tasks.by_target import bits_of, done_of, lost_of
from engine.tasks.documents import stored_document
from engine.tasks.handed_ids import own_id
from engine.tasks.plan import Note, Plan, Skipped
from engine.tasks.records import By
from engine.tasks.stored_documents import public
from engine.tasks.task import Share, Task
from engine.tasks.words import ACKED, CANCELLED, DELAYED, FAILED, LATE, QUEUED, TOGETHER, Operation, State
from engine.tree.fate import fate_of
from engine.tree.piece import Piece, words_of
from engine.tree.reports import report_of, stored_report
from engine.tree.same import Same
from engine.tree.words import Report, flags_of

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = 1000.0
URLS = ["http://a.com/1", "http://a.com/2", "http://a.com/3"]


def task_of(task_id: str = "t-1", *, at: float = 5.0, **extra: Any) -> Task:
    task = Task(
        id=task_id,
        action="purge",
        kind="url",
        targets=list(URLS),
        soft=False,
        prefetch=False,
        callback=None,
        due_s=60,
        body=b"",
        digest=b"",
        created_at=at,
    )
    for name, value in extra.items():
        setattr(task, name, value)
    return task


def piece_of(
    task: Task, indexes: Sequence[int] = (0, 1, 2), operation: Operation = Operation.PURGE_URL
) -> Piece:
    way: Any = None
    node: Any = Leaf("eu")
    share = Share(task, node, operation, len(task.targets))
    return Piece(way, share, list(indexes), "", now=NOW, late_slack_s=100)


def body_of(piece: Piece) -> dict[str, Any]:
    return dict(json.loads(piece.body))


def late_of(task_id: str, at: float = 5.0) -> Task:
    owner: Any = object()
    late = Task.internal(list(URLS), owner=owner, task_id=f"{LATE}{task_id}")
    late.created_at, late.updated_at = at, time.time()
    return late


def test_a_whole_share_has_the_id_of_its_task_and_the_same_bytes_each_time() -> None:
    piece = piece_of(task_of())
    assert body_of(piece) == {"id": "t-1", "targets": URLS, "kind": "url", "due_s": 60, "confirm": True}
    assert piece.body == piece_of(task_of()).body


def test_a_part_has_an_id_of_its_own_made_of_what_is_handed_down() -> None:
    first, again = piece_of(task_of(), [0, 1]), piece_of(task_of(), [0, 1])
    assert first.id.startswith("t-1~")
    assert (first.id, first.body) == (again.id, again.body)
    others = {
        piece_of(task_of(), [1, 2]).id,
        piece_of(task_of(at=6.0), [0, 1]).id,  # the id was used again, for another task
        piece_of(task_of(due_s=61), [0, 1]).id,
        piece_of(task_of("t-2"), [0, 1]).id,
    }
    assert first.id not in others
    assert len(others) == 4


@pytest.mark.parametrize("task_id", ["t", "x" * 62, "x" * 64])
def test_ids_are_such_as_a_child_takes(task_id: str) -> None:
    ids = {own_id(task_id, Operation.PREFETCH), piece_of(task_of(task_id), [0]).id, task_id}
    assert len(ids) == 3
    assert all(1 <= len(one) <= 64 for one in ids)


@pytest.mark.parametrize("operation", Operation)
def test_each_operation_is_asked_for_in_words_that_mean_it(operation: Operation) -> None:
    from engine.tasks.words import operation_of  # noqa: PLC0415 - beside what it is the inverse of

    action, kind, soft = words_of(operation)
    assert operation_of(action, kind, soft=soft) is operation


def test_rows_of_a_task_are_asked_for_by_its_id_and_handed_down_as_a_part() -> None:
    piece = piece_of(late_of("t-1"))
    assert (piece.id, piece.is_asked_first, piece.task_id) == ("t-1", True, "t-1")
    piece.send_as_part()
    assert piece.id.startswith("t-1~")
    assert "due_s" not in body_of(piece)
    assert piece.id == (again := piece_of(late_of("t-1"))).part_id()
    assert again.part_id() != piece_of(late_of("t-1", at=6.0)).part_id()


def test_rows_of_several_tasks_are_a_part_of_none_of_them() -> None:
    def together(digest: str) -> Piece:
        owner: Any = object()
        task = Task.internal(list(URLS), owner=owner, task_id=f"{TOGETHER}{digest}")
        return piece_of(task)

    piece = together("ab" * 16)
    assert (piece.is_asked_first, piece.is_part, piece.task_id) == (False, True, "")
    assert piece.id.startswith("together~")
    assert len(piece.id) <= 64
    assert piece.id == together("ab" * 16).id  # handed down again it is known
    assert piece.id != together("cd" * 16).id


def test_what_a_child_did_before_rows_were_made_is_not_what_they_ask_for() -> None:
    """Rows of second purges, behind a parent that was away for the first ones."""
    piece = piece_of(late_of("t-1"))
    piece.share.task.updated_at = time.time() - 60
    assert piece.is_done_before(100)
    assert not piece.is_done_before(30)
    assert not piece.is_done_before(0)
    assert not piece_of(task_of()).is_done_before(100)
    piece.send_as_part()
    assert not piece.is_done_before(100)


def test_a_part_that_is_sent_anew_has_an_id_that_was_never_used() -> None:
    piece = piece_of(task_of())
    ids = {piece.id, piece.part_id()}
    for _ in range(3):
        piece.send_as_part(anew=True)
        ids.add(piece.id)
    assert len(ids) == 5
    assert body_of(piece)["id"] == piece.id


def test_purges_on_the_engines_own_account_are_never_the_same_twice() -> None:
    owner: Any = object()
    early = Task.internal(list(URLS), owner=owner, task_id="t-1")
    one, two = piece_of(early), piece_of(early)
    assert len({one.id, two.id, "t-1"}) == 3
    assert not one.is_asked_first


def test_a_task_of_the_child_that_is_older_than_ours_is_another() -> None:
    fresh = piece_of(task_of(at=time.time() - 10))
    assert not fresh.is_of_another(10.5)
    assert fresh.is_of_another(3600)
    late = piece_of(late_of("t-1"))
    assert not late.is_of_another(90)
    assert late.is_of_another(200)


def test_second_purges_come_from_the_root_alone() -> None:
    assert body_of(piece_of(task_of(rebound_s=5.0)))["rebound_s"] == 0
    assert "rebound_s" not in body_of(piece_of(task_of()))


@pytest.mark.parametrize("asked", ["refuse", "skip"])
def test_leaves_that_cannot_do_it_are_left_out_as_the_client_wishes(asked: str) -> None:
    body = json.dumps({"targets": URLS, "on_incapable": asked}).encode()
    assert body_of(piece_of(task_of(body=body)))["on_incapable"] == asked
    assert "on_incapable" not in body_of(piece_of(task_of()))


def test_a_url_with_a_star_at_its_end_is_meant_so() -> None:
    task = task_of()
    task.targets[2] = "http://a.com/*"
    assert body_of(piece_of(task))["literal"] is True


def test_bits_are_read_as_they_were_written() -> None:
    assert list(flags_of(bits_of([0, 5, 9]), 10)) == [1, 0, 0, 0, 0, 1, 0, 0, 0, 1]
    assert list(flags_of("", 2)) == [0, 0]
    for wrong in ("zz", "4", "-1"):
        with pytest.raises(ValueError, match=r"invalid literal|a report of"):
            flags_of(wrong, 2)


def report(state: str, **extra: Any) -> Report:
    return Report("t-1", "x", state, 6, 3, **extra)


def test_all_leaves_did_all_of_it() -> None:
    fate = fate_of(piece_of(task_of()), report("done", acked=6), "eu")
    assert (list(fate.done), fate.is_absent, fate.failed, fate.held) == ([0, 1, 2], False, (), ())
    assert fate_of(piece_of(task_of()), report("done", acked=6, absent=6), "eu").is_absent


def test_what_some_leaves_did_counts_as_soon_as_all_of_them_did_it() -> None:
    fate = fate_of(piece_of(task_of()), report("running", acked=5, at_work=1, done="3"), "eu")
    assert (list(fate.done), fate.failed, fate.held) == ([0, 1], (), ())


def test_what_a_leaf_holds_is_held_with_its_reason() -> None:
    errors = [{"node": "edge-2", "target": URLS[2], "reason": "unreachable: refused"}]
    fate = fate_of(piece_of(task_of()), report("partial", acked=5, delayed=1, done="3", errors=errors), "eu")
    assert (list(fate.done), list(fate.held)) == ([0, 1], [2])
    assert fate.reason == "held below: eu/edge-2: unreachable: refused"


def test_what_a_leaf_failed_fails_with_its_reason_and_nothing_else_does() -> None:
    errors = [{"node": "edge-2", "target": URLS[1], "reason": "answered 400"}]
    told = report("failed", acked=5, failed=1, done="5", lost="2", errors=errors)
    fate = fate_of(piece_of(task_of()), told, "eu")
    assert (list(fate.done), list(fate.failed)) == ([0, 2], [(1, "eu/edge-2: answered 400")])


@pytest.mark.parametrize("reason", ["answered 400", "unreachable: refused", "poison: it went wrong 20 times"])
def test_errors_alone_neither_ack_a_target_nor_fail_it(reason: str) -> None:
    """A stored task of a version before: its errors may be of an attempt before the last, or not all."""
    told = report("failed", acked=5, failed=1, errors=[{"node": "e", "target": URLS[0], "reason": reason}])
    fate = fate_of(piece_of(task_of()), told, "eu")
    assert (list(fate.done), list(fate.failed), list(fate.untold)) == ([], [], [0, 1, 2])
    late = fate_of(piece_of(late_of("t-1")), told, "eu")
    assert (list(late.done), list(late.failed), list(late.untold)) == ([], [], [0, 1, 2])


@pytest.mark.parametrize("state", ["done", "partial", "failed", "running"])
def test_a_report_of_another_number_of_targets_acks_none(state: str) -> None:
    fate = fate_of(piece_of(task_of()), Report("t-1", "x", state, 1, 1, acked=1), "eu")
    assert (list(fate.done), list(fate.failed)) == ([], [])


def test_a_report_counts_that_bears_the_digest_of_the_line_as_the_child_reads_it() -> None:
    piece, same = piece_of(task_of()), Same()
    digest = digest_of(decode(piece.body)).hex()
    piece.forget_body()
    assert not same.is_other(piece, report("done", acked=6, digest=digest))
    others = [task_of(due_s=61), task_of(targets=[*URLS[:2], "http://a.com/9"]), task_of(kind="prefix")]
    for digest in ("", *(piece_of(task).digest for task in others[:2])):
        assert same.is_other(piece, report("done", acked=6, digest=digest))


def test_rows_count_as_done_only_by_what_was_handed_down_for_their_task() -> None:
    """By its digest, where it is known; otherwise by a task of the same targets and no others."""
    same, late = Same(), piece_of(late_of("t-1"))
    assert same.is_other(late, report("done", acked=6, digest="1f"))
    assert same.is_other(late, report("done", acked=6, digest="1f", name="another"))
    assert not same.is_other(late, report("done", acked=6, digest="1f", name=late.name))
    assert piece_of(late_of("t-1"), [1, 2]).name != late.name != piece_of(task_of(), [0]).name
    first = piece_of(task_of())
    same.note_held(first)
    part = piece_of(late_of("t-1"), [1])
    assert not same.is_other(part, report("done", acked=6, digest=first.digest))
    assert same.is_other(part, report("done", acked=6, digest="1f", name=part.name))


def leaves_of(task: Task, *states: Sequence[int]) -> Task:
    """Give a task of the child a share for each leaf, with the states of its targets."""
    shares = []
    for number, told in enumerate(states):
        node: Any = Leaf(f"edge-{number}")
        share = Share(task, node, Operation.PURGE_URL, len(told))
        share.states = bytearray(told)
        for state in told:
            share.acked_count += state == ACKED
            share.failed_count += state == FAILED
            share.delayed_count += state == DELAYED
            share.cancelled_count += state == CANCELLED
        shares.append(share)
    task.shares, task.by, task.digest = shares, By("", "", "tree"), b"1"
    task.total = sum(map(len, states))
    task.plan = Plan(steps=())
    return task


class Leaf(NamedTuple):
    name: str
    layer: str = "edge"


@pytest.mark.parametrize(
    "targets", [URLS, ["a.com/key", "*.b.com/k", "c.com/\u00fc"], ["http://a.com/*"] * 3]
)
def test_a_task_that_only_the_store_has_tells_each_target_as_one_in_memory_does(targets: list[str]) -> None:
    task = leaves_of(task_of(targets=targets), [ACKED, ACKED, ACKED], [ACKED, FAILED, DELAYED])
    task.errors = [{"node": "edge-1", "target": "in other words", "reason": "answered 400"}]
    task.state = State.PARTIAL
    document = msgspec.to_builtins(stored_document(task))
    stored, live = stored_report(document), report_of(task)
    assert (stored.done, stored.lost, stored.name, stored.digest) == ("1", "2", live.name, live.digest)
    assert (live.done, live.lost) == ("1", "2")
    assert "by_target" not in public(document)
    fate = fate_of(piece_of(task_of(targets=targets)), stored, "eu")
    assert (list(fate.done), [place for place, _ in fate.failed], list(fate.held)) == ([0], [1], [2])


def test_bits_tell_each_target_over_all_leaves() -> None:
    rng = random.Random(1)
    states = [rng.choices([QUEUED, ACKED, ACKED, FAILED, CANCELLED], k=500) for _ in range(3)]
    task = leaves_of(task_of(targets=[f"http://a/{n}" for n in range(500)]), *states)
    done = [all(each[at] == ACKED for each in states) for at in range(500)]
    over = [all(each[at] != QUEUED for each in states) for at in range(500)]
    assert list(flags_of(done_of(task), 500)) == done
    assert list(flags_of(lost_of(task), 500)) == [o and not d for o, d in zip(over, done, strict=True)]


def test_bits_of_another_number_of_targets_say_nothing() -> None:
    told = Report("t-1", "x", "partial", 8, 4, acked=7, delayed=1, done="7")
    fate = fate_of(piece_of(task_of()), told, "eu")
    assert (list(fate.done), list(fate.held)) == ([], [0, 1, 2])


def test_no_report_is_longer_for_all_that_is_skipped() -> None:
    """A thousand reports are one answer, which has a limit."""
    skipped = tuple(Skipped(f"squid-{n}", "squid, cannot purge by regex") for n in range(5000))
    note = Note(tuple(one.name for one in skipped), "purged hard")
    task = leaves_of(task_of(), [ACKED] * 3)
    task.plan = Plan(steps=(), skipped=skipped, notes=(note,))
    live, stored = report_of(task), stored_report(msgspec.to_builtins(stored_document(task)))
    for told in (live, stored):
        assert (len(told.skipped), len(told.notes[0].nodes)) == (100, 100)
        assert len(msgspec.json.encode(told)) < 16_000
