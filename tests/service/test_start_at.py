"""Tasks that begin later: stored now, planned and sent at their time, once."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from engine.cli.main import main
from engine.errors import BacklogFullError
from tests.fakes.node import FakeNode, Held
from tests.rigs import engine_in_loop
from tests.rigs.delivery_rig import Rig, rig_of
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.raw_client import RawClient, chunked, post
from tests.rigs.redis_servers import RedisServer
from tests.rigs.supervised_engine import SupervisedEngine
from tests.waiting import until, wait_until

if TYPE_CHECKING:
    from pathlib import Path

URL = "http://a.com/"


class Clock:
    """The wall clock that a schedule goes by; somebody sets it."""

    def __init__(self, rig: Rig) -> None:
        self.s = time.time()
        rig.dispatch.schedule.now = lambda: self.s


async def test_a_task_is_sent_at_its_time_and_its_due_time_counts_from_there(tmp_path: Path) -> None:
    with FakeNode() as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            start_at = time.time() + 1
            task = rig.submit(targets=[URL], start_at=start_at, due_s=5)
            await until(lambda: len(rig.dispatch.schedule) == 1)
            assert (rig.load.live, task.state, task.due_at) == (0, "accepted", start_at + 5)
            found = await rig.stored(task, "done")
            assert (found["start_at"], found["due_at"], found["counter"]) == (start_at, start_at + 5, 1)
            assert time.time() >= start_at
            assert edge.urls == [URL]
            assert rig.load.live == 0


async def test_a_clock_that_is_set_neither_loses_nor_doubles_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.delivery.schedule._LOOK_S", 0.01)
    with FakeNode() as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            clock = Clock(rig)
            task = rig.submit(targets=[URL], start_at=time.time() + 3600)
            await until(lambda: len(rig.dispatch.schedule) == 1)
            clock.s -= 86400
            await asyncio.sleep(0.05)
            assert edge.urls == []
            clock.s += 86400 + 3700
            await rig.stored(task, "done")
            clock.s -= 7200
            await asyncio.sleep(0.05)
            assert edge.urls == [URL]


async def test_a_task_that_is_taken_back_before_its_time_is_never_sent(tmp_path: Path) -> None:
    with FakeNode() as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            clock = Clock(rig)
            task = rig.submit(targets=[URL, URL + "2"], start_at=time.time() + 3600)
            await until(lambda: len(rig.dispatch.schedule) == 1)
            assert rig.dispatch.cancel(task) == 2
            found = await rig.stored(task, "cancelled")
            assert (found["cancelled"], found["total"], rig.load.live) == (2, 2, 0)
            clock.s += 7200
            rig.dispatch.schedule._look()
            assert (edge.urls, len(rig.dispatch.schedule)) == ([], 0)


async def test_a_schedule_without_room_takes_no_more(tmp_path: Path) -> None:
    with FakeNode() as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            schedule = rig.dispatch.schedule
            schedule.subtasks_max = 3
            task = rig.submit(targets=[URL, URL + "2"], start_at=time.time() + 3600)
            await until(lambda: len(schedule) == 1)
            with pytest.raises(BacklogFullError, match="the schedule is full"):
                schedule.check(task)
            schedule.lost(task.id)
            schedule.check(task)
            assert rig.load.live == 0


def test_it_is_listed_with_its_time_and_outlives_a_restart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def ask(port: int, *arguments: str) -> tuple[int, Any]:
        url = f"http://127.0.0.1:{port}"
        code = await asyncio.to_thread(main, [*arguments, "--json", "--engine", url])
        return code, json.loads(capsys.readouterr().out or "null")

    async def scenario() -> None:
        at = round(time.time() + 4, 3)
        with FakeNode() as edge:
            async with engine_in_loop.running(tmp_path, edge.url) as (_, port):
                assert (await ask(port, "purge", URL, "--id", "later", "--at", str(at)))[0] == 0
                _, said = await ask(port, "status", "later")
                assert (said["state"], said["start_at"], said["total"]) == ("accepted", at, 1)
                _, listed = await ask(port, "tasks", "--state", "accepted")
                assert [(task["task_id"], task["start_at"]) for task in listed["tasks"]] == [("later", at)]
                code, _ = await ask(port, "purge", URL, "--id", "past", "--at", "1000", "--wait")
                assert code == 0, "a time that is over means now"
                code, _ = await ask(port, "purge", URL, "--at", str(time.time() + 31 * 86400))
                assert code != 0
                code, _ = await ask(port, "purge", URL + "no", "--id", "no", "--at", str(at + 3600))
                assert (await ask(port, "cancel", "no"))[1]["state"] == "cancelled"
            async with engine_in_loop.running(tmp_path, edge.url) as (_, port):
                assert (await ask(port, "watch", "later"))[0] == 0
                assert time.time() >= at
                assert edge.urls == [URL, URL]
            async with engine_in_loop.running(tmp_path, edge.url) as (_, port):
                assert (await ask(port, "status", "later"))[1]["start_at"] == at
                assert edge.urls == [URL, URL]

    engine_in_loop.run(scenario)


def test_it_is_planned_at_its_time_and_goes_on_by_that_plan_after_a_kill(tmp_path: Path) -> None:
    held = Held()
    with FakeNode() as one, FakeNode(held) as other:
        first = fake_table(one.url, name="edge-1", driver="ats")
        both = first + fake_table(other.url, name="edge-2", driver="ats")
        with EngineProcess(tmp_path, first) as engine:
            task_id = engine.submit([URL], start_at=time.time() + 3)
            assert engine.task(task_id)["total"] == 1
            engine.kill()
            engine.configure(both)
            engine.start()
            wait_until(lambda: other.urls == [URL], what="the purge being sent to both")
            assert engine.task(task_id)["total"] == 2
            engine.kill()
            engine.configure(first)
            engine.start()
            found = engine.wait_for(task_id, "partial")
            assert (found["total"], found["counter"], found["delayed"]) == (2, 1, 1)
            held.released.set()
            engine.kill()
            engine.configure(both)
            engine.start()
            assert engine.wait_for(task_id, "done")["counter"] == 2


@pytest.mark.slow
def test_both_lanes_and_all_workers_take_it_over_a_reload(tmp_path: Path) -> None:
    with FakeNode() as edge, SupervisedEngine(
        tmp_path, fake_table(edge.url, name="edge-1", driver="ats"), workers=2, drain_timeout_s=1
    ) as engine:  # fmt: skip
        at = time.time() + 5
        with RawClient(engine.port) as client:
            answers = [
                client.ask(make({"id": f"{make.__name__}-{number}", "targets": [URL], "start_at": at}))
                for make in (post, chunked)
                for number in range(3)
            ]
        assert [answer.status for answer in answers] == [202] * 6
        ids = [answer.json["task_id"] for answer in answers]
        for task_id in ids:
            found = engine.task(task_id)
            assert (found["state"], found["start_at"]) == ("accepted", at)
        engine.reload()
        for task_id in ids:  # a busy disk takes seconds for each of the commits of a reload
            assert engine.wait_for(task_id, timeout_s=60)["state"] == "done"
        assert time.time() >= at
        assert set(edge.urls) == {URL}
        assert len(edge.urls) <= 2, "one for each worker, as they begin at once"


@pytest.mark.redis
def test_what_a_killed_engine_had_for_later_is_done_by_another(tmp_path: Path) -> None:
    with FakeNode() as edge, RedisServer(tmp_path) as redis:
        tables = f'[store]\nurl = "{redis.url}"\ntakeover_s = 1\n' + fake_table(
            edge.url, name="edge-1", driver="ats"
        )
        engines = []
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            engines.append(EngineProcess(tmp_path / name, tables, name=name))
        one, other = engines
        with one, other:
            at = time.time() + 4
            task_id = one.submit([URL], start_at=at)
            cancelled = one.submit([URL + "no"], start_at=at)
            found = other.task(task_id)
            assert (found["state"], found["start_at"], found["total"]) == ("accepted", at, 1)
            assert other.request("DELETE", f"/v1/engine/task/{cancelled}")[0] == 200
            one.kill()
            assert other.wait_for(task_id)["state"] == "done"
            assert time.time() >= at
            assert edge.urls == [URL]
            wait_until(lambda: not redis.ask("KEYS", "*begun:*"), what="nothing left of it but its document")
