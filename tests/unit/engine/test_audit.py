"""The lines of the audit: who, what, the outcome; and how many a flood of refusals makes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from engine.observe.audit_line import AuditLine
from engine.observe.log_lines import as_dict, as_struct, as_text
from engine.tasks.records import By
from engine.tasks.task import Task
from engine.tasks.words import State
from tests.fakes.audit import Lines, audit_of

if TYPE_CHECKING:
    from collections.abc import Callable

BY = By("cms", "192.0.2.7", "http")
LINE = AuditLine(1.5, "INFO", "request refused", "purgeline/1", "refused", "cms", status=401, reason="a\nb")


def purge(count: int = 2) -> Task:
    task = Task.internal([f"http://a/{number}" for number in range(count)], owner=None, task_id="t")
    task.by = BY
    return task


async def test_lines_of_a_task_say_who_what_and_the_outcome_and_are_written_at_the_end_of_the_turn() -> None:
    lines = Lines()
    audit = audit_of(lines)
    task = purge()
    audit.accepted(task)
    task.state = State.FAILED
    audit.settled(task)
    assert not lines.lines
    await asyncio.sleep(0)
    accepted, settled = lines.lines
    for line in (accepted, settled):
        assert (line.by, line.address, line.door) == ("cms", "192.0.2.7", "http")
        assert (line.task_id, line.action, line.kind, line.count) == ("t", "purge", "url", 2)
        assert line.target == "http://a/0"
    assert (accepted.audit, accepted.status, accepted.outcome) == ("accepted", 202, "accepted")
    assert (settled.audit, settled.outcome) == ("settled", "failed")


async def test_a_long_target_makes_no_long_line() -> None:
    lines = Lines()
    audit = audit_of(lines)
    task = purge()
    task.targets = ["http://a/" + "x" * 8000]
    audit.accepted(task)
    audit.refused(409, "y" * 9000, BY, task)
    audit.flush()
    assert [len(line.target) for line in lines.lines] == [500, 500]
    assert len(lines.lines[1].reason) == 500


async def test_a_flood_of_one_status_is_cut_off_and_counted_and_others_are_told() -> None:
    lines = Lines()
    audit = audit_of(lines)
    for _ in range(1000):
        audit.refused(401, "no", By())
    audit.refused(409, "taken", BY)
    audit.flush()
    assert [line.status for line in lines.lines] == [401] * 50 + [409]
    lines.lines.clear()
    audit._tell_left_out()  # at the end of the second
    audit._tell_left_out()
    audit.refused(401, "no", By())
    audit.flush()
    assert [(line.status, line.left_out) for line in lines.lines] == [(401, 950), (401, 0)]


async def test_a_flood_that_ends_is_counted_without_another_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Lines()
    audit = audit_of(lines)
    told = asyncio.Event()
    loop = asyncio.get_running_loop()

    def soon(_at: float, call: Callable[[], None]) -> None:
        loop.call_soon(call)
        loop.call_soon(told.set)

    monkeypatch.setattr(loop, "call_at", soon)
    for _ in range(60):
        audit.refused(429, "slower", BY)
    await told.wait()
    audit.flush()
    assert lines.lines[-1].left_out == 10


@pytest.mark.parametrize("status", [400, 404, 405, 415, 500])
async def test_what_is_no_matter_of_who_may_do_what_has_no_line(status: int) -> None:
    lines = Lines()
    audit = audit_of(lines)
    audit.refused(status, "no", BY)
    audit.flush()
    assert lines.lines == []


def test_an_audit_that_is_off_writes_nothing() -> None:
    audit = audit_of()
    audit.accepted(purge())
    audit.refused(401, "no", BY)
    audit.cancelled({"task_id": "t", "state": "cancelled"}, BY)
    audit.admin("PUT /x", BY, 200)
    audit.flush()
    assert audit._lines == []


def test_every_formatter_takes_the_lines() -> None:
    said = {"time": 1.5, "level": "INFO", "message": "request refused", "service": "purgeline/1"}
    said |= {"audit": "refused", "by": "cms", "status": 401, "reason": "a\nb"}
    assert msgspec.json.decode(as_struct(LINE)) == said
    assert msgspec.json.decode(as_dict(LINE)) == said
    assert as_text(LINE).decode().endswith(r" audit=refused by=cms status=401 reason=a\nb" + "\n")
