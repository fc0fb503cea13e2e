"""When a child answers a question: what is news, and what is not yet."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from engine.delivery.watchers import Watchers
from engine.tasks.by_target import DOOR
from engine.tree import reports as reports_module
from engine.tree.reports import Reports
from tests.waiting import until

if TYPE_CHECKING:
    import pytest


class Found:
    """The tasks of a child, in memory; counts how often each is looked at."""

    def __init__(self) -> None:
        self.tasks: dict[str, Any] = {}
        self.looks = 0

    def add(self, name: str, *, age_s: float = 0.0) -> Any:
        share = SimpleNamespace(
            acked_count=0, absent_count=0, failed_count=0, delayed_count=0, cancelled_count=0, acked_at=0.0
        )
        share.states = bytearray(1)
        self.tasks[name] = SimpleNamespace(
            id=name, total=1, targets=["http://a/1"], shares=[share], state="running", settled_at=None,
            errors=[], verify=None, created_at=time.time() - age_s, updated_at=0.0, live=1, digest=b"",
            token="", action="purge", kind="url", soft=False, by=SimpleNamespace(door=DOOR),
            plan=None, lower=None,
        )  # fmt: skip
        return self.tasks[name]

    def end(self, name: str) -> None:
        """All of it is acked."""
        task = self.tasks[name]
        task.shares[0].acked_count, task.state, task.live, task.updated_at = 1, "done", 0, 1.0

    def in_memory(self, name: str) -> Any:
        self.looks += 1
        return self.tasks.get(name)

    async def private(self, _name: str) -> None:
        return None


def reports_of(found: Found) -> tuple[Reports, Watchers]:
    watchers = Watchers()
    find: Any = found
    return Reports(find, watchers), watchers


TOKEN: Any = SimpleNamespace(may_see=lambda _name: True)


async def test_a_task_that_has_begun_just_now_is_told_of_when_it_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was told of at once, as at work, and asked for a second time."""
    monkeypatch.setattr(reports_module, "_YOUNG_S", 60)
    found = Found()
    reports, watchers = reports_of(found)
    task = found.add("t-1")
    asking = asyncio.create_task(reports.new({"t-1": ""}, TOKEN, 20))
    await until(lambda: found.looks >= 2)
    found.end("t-1")
    watchers.tell(task)
    told, unknown = await asyncio.wait_for(asking, 60)
    assert [(report.id, report.acked) for report in told] == [("t-1", 1)]
    assert unknown == []


async def test_one_that_takes_longer_is_told_of_as_at_work() -> None:
    found = Found()
    reports, _ = reports_of(found)
    found.add("t-1", age_s=1)
    [report], _ = await asyncio.wait_for(reports.new({"t-1": ""}, TOKEN, 20), 60)
    assert (report.id, report.at_work) == ("t-1", 1)


async def test_who_does_not_wait_is_told_at_once() -> None:
    found = Found()
    reports, _ = reports_of(found)
    found.add("t-1")
    [report], _ = await reports.new({"t-1": ""}, TOKEN, 0)
    assert report.at_work == 1


async def test_news_of_one_has_no_other_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports_module, "_AGAIN_S", 60)
    monkeypatch.setattr(reports_module, "_STORED_FIRST_S", 60)
    found = Found()
    reports, watchers = reports_of(found)
    names = [f"t-{number}" for number in range(500)]
    for name in names:
        found.add(name, age_s=1)
    told, _ = await reports.new(dict.fromkeys(names, ""), TOKEN, 20)
    seen = {report.id: report.seen for report in told}
    assert len(seen) == 500
    asking = asyncio.create_task(reports.new(seen, TOKEN, 20))
    before = found.looks
    await until(lambda: found.looks > before)
    await asyncio.sleep(0)
    before = found.looks
    found.end("t-7")
    watchers.tell(found.tasks["t-7"])
    told, _ = await asyncio.wait_for(asking, 60)
    assert [report.id for report in told] == ["t-7"]
    assert found.looks - before < 500
