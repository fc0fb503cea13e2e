"""From reports of cache groups to tasks. The intake is a recorder, and time is the loop's."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from engine.api import group_purges
from engine.api.group_purges import GroupPurges, Invalidated
from engine.intake.replies import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

HOST = "shop.example.com"
PAUSE_S = 0.02


class Bench:
    """Group purges, and what they hand in."""

    def __init__(self) -> None:
        self.handed_in: list[tuple[list[str], Callable[[Reply], None]]] = []
        admission: Any = SimpleNamespace(submit=self._submit)
        self.purges = GroupPurges(admission, asyncio.get_running_loop())
        self.replies: list[Reply] = []

    def _submit(self, body: bytes, _client: object, answer: Callable[[Reply], None]) -> None:
        task = json.loads(body)
        assert (task["kind"], task["on_incapable"], task["confirm"]) == ("key", "skip", True)
        self.handed_in.append(([f"{each['host']}/{each['key']}" for each in task["targets"]], answer))

    def report(self, *keys: str, host: str = HOST, token: str = "t", report_id: str = "") -> bool:
        client: Any = SimpleNamespace(token=SimpleNamespace(name=token))
        return self.purges.purge(Invalidated(host, keys, report_id), client, self.replies.append)

    def save(self, status: int = 202) -> None:
        self.handed_in[-1][1](Reply(status, b"{}"))

    @property
    def targets(self) -> list[list[str]]:
        return [targets for targets, _ in self.handed_in]


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_purges, "PAUSE_S", PAUSE_S)


@pytest.mark.usefixtures("_short")
async def test_a_storm_is_one_task_at_once_and_one_for_all_that_came_in_the_pause() -> None:
    bench = Bench()
    for number in range(200):
        bench.report(f"g{number % 3}")
    bench.report("other", host="b.org")
    bench.report("mine", token="u")
    assert bench.targets == [[f"{HOST}/g0"], ["b.org/other"], [f"{HOST}/mine"]]
    assert not bench.replies
    await asyncio.sleep(2 * PAUSE_S)
    assert bench.targets[3:] == [[f"{HOST}/g1", f"{HOST}/g2", f"{HOST}/g0"]]
    bench.save()
    assert len(bench.replies) == 199


@pytest.mark.usefixtures("_short")
async def test_the_last_report_is_purged_after_it_came_and_a_pause_later_the_next_at_once() -> None:
    bench = Bench()
    bench.report("a")
    bench.save()
    bench.report("a")
    assert len(bench.handed_in) == 1
    await asyncio.sleep(1.5 * PAUSE_S)
    assert len(bench.handed_in) == 2
    await asyncio.sleep(1.5 * PAUSE_S)
    assert repr(bench.purges) == "<GroupPurges [0 hosts pause]>"
    bench.report("a")
    assert len(bench.handed_in) == 3


async def test_the_same_report_told_twice_is_one_task() -> None:
    """By an edge and its parent, say: before the task is saved, and after."""
    bench = Bench()
    assert not bench.report("a", report_id="p.1.2")
    assert bench.report("a", report_id="p.1.2")
    bench.save()
    assert bench.report("a", report_id="p.1.2")
    assert (len(bench.handed_in), len(bench.replies)) == (1, 3)
    assert not bench.report("b", report_id="p.1.2")  # an id says nothing of other groups
    assert not bench.report("a", report_id="p.1.2", host="b.org")


async def test_what_was_not_saved_is_tried_again() -> None:
    bench = Bench()
    bench.report("a", report_id="p.1.2")
    bench.save(503)
    assert not bench.report("a", report_id="p.1.2")
    assert [reply.status for reply in bench.replies] == [503]


async def test_what_would_have_no_end_is_refused_for_now(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.report("first")
    for number in range(3):
        bench.report(*(f"{number}-{each}" for each in range(4000)))
    assert [reply.status for reply in bench.replies] == [503]
    monkeypatch.setattr(group_purges, "_HOSTS_MAX", 2)
    bench.report("a", host="b.org")
    bench.report("a", host="c.org")
    assert [reply.status for reply in bench.replies] == [503, 503]
    assert bench.replies[-1].headers["Retry-After"] == "1"
