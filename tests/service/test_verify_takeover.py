"""A verification that an engine left behind is done by the one that takes its task over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fakes.node import Act, Request
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.proof_rig import URL, Cachelet
from tests.rigs.redis_servers import RedisServer
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
