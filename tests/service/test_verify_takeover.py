"""A verification that an engine, or a worker, left behind is done by whoever goes on with its task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.tasks.shards import slot_of
from tests.fakes.node import Act, Request, answer
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.proof_rig import HOST, URL, Cachelet
from tests.rigs.redis_servers import RedisServer
from tests.rigs.supervised_engine import SupervisedEngine
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from release.lab.origin import Origin


@pytest.mark.slow
def test_a_task_whose_engine_died_before_its_visits_is_verified_by_another(
    origin: Origin, tmp_path: Path
) -> None:
    hangs = [True]

    def script(request: Request) -> list[bytes | Act]:
        if request.method == "GET" and hangs:
            return [Act.HANG]
        return list(edge._answer(request))

    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    with Cachelet(origin) as edge, RedisServer(tmp_path) as redis:
        edge.script = script
        tables = (
            f'[store]\nurl = "{redis.url}"\ntakeover_s = 1\n[[origin]]\nhost = "*"\nurl = "{origin.url}"\n'
            + fake_table(edge.url, name="edge-1")
        )
        one, two = (EngineProcess(folder, tables, name=folder.name) for folder in folders)
        with one, two:
            task_id = one.submit([URL], verify=True)
            wait_until(edge.visits, what="a visit")
            assert two.task(task_id)["state"] != "done"
            one.kill()
            hangs.clear()
            task = two.wait_for(task_id, timeout_s=40)
            assert (task["state"], task["verify"]["verified"]) == ("done", 1)


@pytest.mark.slow
def test_what_two_workers_were_verifying_is_verified_after_a_hot_reload(
    origin: Origin, tmp_path: Path
) -> None:
    """And what guards and visits came to is shown as one, whichever worker is asked."""
    hangs = [True]

    def script(request: Request) -> list[bytes | Act]:
        if request.method == "GET" and request.path == "/broken":
            return [answer(503)]
        if request.method == "GET" and hangs:
            return [Act.HANG]
        return list(edge._answer(request))

    with Cachelet(origin) as edge:
        edge.script = script
        tables = f'[[origin]]\nhost = "*"\nurl = "{origin.url}"\n' + fake_table(edge.url, name="edge-1")
        with SupervisedEngine(tmp_path, tables, workers=2) as engine:
            ids: dict[int, str] = {}
            for number in range(100):
                ids.setdefault(slot_of(f"task-{number}", 2), f"task-{number}")
            for task_id in ids.values():
                engine.submit([f"http://{HOST}/{task_id}"], id=task_id, verify=True)
            wait_until(lambda: len(edge.visits()) == 2, what="a visit by each worker")
            assert [engine.get("/v1/engine/stats")["proof"]["looks_waiting"] for _ in range(6)] == [2] * 6
            hangs.clear()
            engine.reload()
            for task_id in ids.values():
                task = engine.wait_for(task_id)
                assert (task["state"], task["verify"]["verified"], task["counter"]) == ("done", 1, 1)
            engine.submit([f"http://{HOST}/broken"], action="prefetch")
            reasons: list[str] = []

            def is_told() -> bool:
                [guard] = engine.get("/v1/engine/stats")["proof"]["origins"]
                reasons.append(guard["reason"])
                return bool(guard["reason"])

            wait_until(is_told, what="a pause")
            assert all(is_told() for _ in range(6)), reasons
            assert "Traceback" not in engine.log()
