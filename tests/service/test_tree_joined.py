"""A tree whose root and region are several processes: workers of one engine, engines of one Redis."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.fakes.node import OK, Act, FakeNode, always
from tests.rigs.engine_process import fake_table
from tests.rigs.redis_servers import RedisServer
from tests.rigs.supervised_engine import SupervisedEngine
from tests.rigs.tree import engine_in, keys_of, region_table, wait_state
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

URL = "http://img.example.com/"


def supervised(folder: Path, tables: str, *, name: str) -> SupervisedEngine:
    (folder / name).mkdir()
    return SupervisedEngine(folder / name, tables, workers=2, name=name)


@pytest.mark.slow
def test_workers_on_both_sides_lose_nothing_over_a_reload_and_a_kill(tmp_path: Path) -> None:
    with FakeNode() as one, FakeNode() as two:
        tables = fake_table(one.url, name="edge-1") + fake_table(two.url, name="edge-2")
        with (
            supervised(tmp_path, tables, name="eu") as region,
            supervised(tmp_path, region_table(region, name="eu"), name="root") as root,
        ):
            two.stop()
            held = [root.submit([f"{URL}{number}"]) for number in range(6)]
            for task in held:
                root.wait_for(task, "partial")
            region.reload()
            os.kill(int(root.workers()[0]["pid"]), signal.SIGKILL)
            two.start()
            for task in held:
                assert root.wait_for(task, "done", timeout_s=60)["counter"] == 1
            assert [sorted(edge.urls) for edge in (one, two)] == [[f"{URL}{n}" for n in range(6)]] * 2
            more = [root.submit([f"{URL}more/{number}"]) for number in range(8)]
            root.reload()
            for task in more:
                root.wait_for(task, "done", timeout_s=60)


@pytest.mark.slow
@pytest.mark.redis
def test_engines_of_a_redis_take_over_from_each_other_on_both_sides(tmp_path: Path) -> None:
    places = [tmp_path / "region", tmp_path / "top"]
    for place in places:
        place.mkdir()
    with FakeNode() as one, FakeNode() as two, RedisServer(places[0]) as below, RedisServer(places[1]) as top:
        tables = f'[store]\nurl = "{below.url}"\n'
        tables += fake_table(one.url, name="edge-1") + fake_table(two.url, name="edge-2")
        with (
            engine_in(tmp_path, tables, name="eu-1") as first,
            engine_in(tmp_path, tables, name="eu-2") as asked,
        ):
            wait_until(lambda: len(keys_of(asked)) == 2, what="the keys of both")
            above = f'[store]\nurl = "{top.url}"\n' + region_table(asked, name="eu")
            with (
                engine_in(tmp_path, above, name="root-1") as dying,
                engine_in(tmp_path, above, name="root-2") as root,
            ):
                two.stop()
                held = dying.submit([f"{URL}held"])
                dying.wait_for(held, "partial")
                dying.kill()
                two.start()
                root.wait_for(held, "done", timeout_s=60)
                assert [edge.urls for edge in (one, two)] == [[f"{URL}held"]] * 2
                two.script = always(Act.HANG)
                running = root.submit([f"{URL}running"])
                wait_until(lambda: one.urls[1:], what="the other leaf")
                first.kill()
                two.script = always(OK)
                two.hang_up()
                root.wait_for(running, "done", timeout_s=60)


@pytest.mark.slow
@pytest.mark.redis
def test_a_cancel_at_one_engine_reaches_parts_that_another_handed_down(tmp_path: Path) -> None:
    """On both sides: the one below has the part in its Redis, whichever of its engines is asked."""
    for name in ("region", "top"):
        (tmp_path / name).mkdir()
    with (
        FakeNode() as one,
        FakeNode() as two,
        RedisServer(tmp_path / "region") as below,
        RedisServer(tmp_path / "top") as top,
    ):
        two.stop()
        tables = f'[store]\nurl = "{below.url}"\n'
        tables += fake_table(one.url, name="edge-1") + fake_table(two.url, name="edge-2")
        with (
            engine_in(tmp_path, tables, name="eu-1") as first,
            engine_in(tmp_path, tables, name="eu-2") as asked,
        ):
            wait_until(lambda: len(keys_of(asked)) == 2, what="the keys of both")
            above = f'[store]\nurl = "{top.url}"\n' + region_table(asked, name="eu")
            with (
                engine_in(tmp_path, above, name="root-1") as root,
                engine_in(tmp_path, above, name="root-2") as other,
            ):
                asked.stop()
                task = root.submit([f"{URL}1", f"{URL}2"], due_s=600)
                root.wait_for(task, "partial")
                asked.start()

                def part() -> str:
                    told = first.get("/v1/engine/tasks?state=partial")["tasks"]
                    return next((one["task_id"] for one in told if one["task_id"].startswith(f"{task}~")), "")

                name = wait_until(part, what="the part") or ""
                by = next(engine for engine in (root, other) if task not in engine.log())
                assert by.request("DELETE", f"/v1/engine/task/{task}")[0] == 200
                first.wait_for(name, "cancelled")
                two.start()
                wait_state(first, "edge-2", "ready")
                assert two.urls == []
