"""A full disk: new tasks are refused, running work goes on, and space is all it takes to go on."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.node import OK, FakeNode, Request
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.waiting import wait_until


class Disk:
    """A small file system of its own under *folder*."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=True)

    def fill(self) -> None:
        with self._filler.open("ab", buffering=0) as filler:
            for size in (65536, 4096):
                try:
                    while True:
                        filler.write(b"\0" * size)
                except OSError:
                    pass

    def free(self) -> None:
        self._filler.unlink()

    def remove(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    assert os.geteuid() == 0, "mounting a small file system takes root"
    made = Disk(tmp_path / "disk")
    yield made
    made.remove()


def test_full_disk(disk: Disk, tmp_path: Path) -> None:
    """503 and never a 202 while it is full; what runs gets done; with space, all 202s are done on disk."""
    opened = threading.Event()

    def script(request: Request) -> Iterator[bytes]:
        if "/held" in request.path:
            opened.wait(60)
        yield OK

    with FakeNode(script) as node:
        table = fake_table(node.url, name="edge-1", driver="ats")
        settings: dict[str, Any] = {"data_dir": str(disk.folder / "var"), "request_timeout_s": 60}
        with EngineProcess(tmp_path, table, **settings) as engine:
            accepted = [engine.submit([f"http://img.example.com/held/{n}"]) for n in range(3)]
            disk.fill()
            body = {"targets": [f"http://img.example.com/{n:0200d}" for n in range(300)]}

            def refused() -> tuple[int, dict[str, str], bytes] | None:
                """The log of the database had some room left."""
                answer = engine.request("POST", "/v1/engine/task", body)
                if answer[0] == 202:
                    accepted.append(json.loads(answer[2])["task_id"])
                    return None
                return answer

            answer = wait_until(refused, what="a refusal")
            assert answer
            status, headers, text = answer
            problem = json.loads(text)
            assert (status, problem["status"], headers["retry-after"]) == (503, 503, "2")
            assert headers["content-type"] == "application/problem+json"
            assert "not saved" in problem["detail"]
            assert "full" in problem["detail"]
            status, _, text = engine.request("GET", "/readyz")
            assert status == 503
            assert "store" in json.loads(text)["detail"]
            assert engine.get("/healthz") == {"status": "ok"}
            for number in range(20):  # alone and in lines, on both lanes
                name = f"full-{number}"
                line = {**body, "id": name}
                status, _, text = engine.request("POST", "/v1/engine/tasks", line)
                assert (status, json.loads(text)["status"]) == (200, 503)
                assert engine.request("GET", f"/v1/engine/task/{name}")[0] == 404

            assert [engine.task(task_id)["counter"] for task_id in accepted[:3]] == [0, 0, 0]
            assert set(accepted[:3]) <= set(in_history(engine))
            opened.set()
            for task_id in accepted[:3]:  # running work goes on, in memory
                assert engine.wait_for(task_id)["state"] == "done"
            wait_until(
                lambda: "new tasks are answered 503" in engine.log(), what="the alert's line in the log"
            )

            disk.free()
            wait_until(lambda: engine.request("GET", "/readyz")[0] == 200, what="readiness by itself")
            accepted.append(engine.submit(["http://img.example.com/after"], id="full-0"))
            wait_until(lambda: "can be written again" in engine.log(), what="the end of the alert")
            for task_id in accepted:
                assert engine.wait_for(task_id)["state"] == "done"
            assert engine.stop() == 0
            engine.start()  # what was done while it was full is on the disk now
            for task_id in accepted:
                assert engine.task(task_id)["state"] == "done"
            assert in_history(engine) == {task_id: {"acked"} for task_id in accepted}
        assert "Traceback" not in engine.log()


def in_history(engine: EngineProcess) -> dict[str, set[str]]:
    """Return the tasks of the history, with what nodes made of them; nothing of it is missing."""
    page = engine.get("/v1/engine/history?limit=1000")
    assert "incomplete" not in page
    return {task["task_id"]: {node["outcome"] for node in task["nodes"]} for task in page["tasks"]}


def test_ready_again_without_work_or_clients(disk: Disk, tmp_path: Path) -> None:
    """A balancer that goes by /readyz sends nothing meanwhile: the engine has to find out by itself."""
    with FakeNode() as node:
        table = fake_table(node.url, name="edge-1", driver="ats")
        with EngineProcess(tmp_path, table, data_dir=str(disk.folder / "var")) as engine:
            disk.fill()
            body = {"targets": [f"http://img.example.com/{n:0200d}" for n in range(9000)]}
            wait_until(lambda: engine.request("POST", "/v1/engine/task", body)[0] == 503, what="a refusal")
            assert engine.request("GET", "/readyz")[0] == 503
            disk.free()
            wait_until(lambda: engine.request("GET", "/readyz")[0] == 200, what="readiness by itself")


def test_a_start_on_a_full_disk_says_so(disk: Disk, tmp_path: Path) -> None:
    """And the next start, with space, is not troubled by what the first one left."""
    disk.fill()
    engine = EngineProcess(tmp_path, "", data_dir=str(disk.folder / "var"))
    engine.start(wait=False)
    assert engine.process is not None
    assert engine.process.wait(20) == 1
    assert "No space left" in engine.log() or "full" in engine.log()
    assert "Traceback" not in engine.log()
    disk.free()
    engine.start()
    assert engine.stop() == 0
