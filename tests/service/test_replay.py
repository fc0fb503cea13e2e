"""``purgeline replay``: a recording sent to a real engine."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from release.lab.caches import free_port
from tests.fakes.node import FakeNode
from tests.fakes.recorded import batch, exchange, recorded
from tests.rigs.engine_process import EngineProcess, fake_table


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    with (
        FakeNode() as node,
        EngineProcess(tmp_path_factory.mktemp("replay"), fake_table(node.url, name="edge-1")) as running,
    ):
        yield running
        assert "Traceback" not in running.log()


def run(port: int, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "engine", "replay", *options, "--engine", f"http://127.0.0.1:{port}"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def replay(engine: EngineProcess, file: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """Run the command; return its exit code and its report."""
    command = [sys.executable, "-m", "engine", "replay", str(file), "--json", *options]
    url = f"http://127.0.0.1:{engine.port}"
    done = subprocess.run(
        [*command, "--engine", url], capture_output=True, text=True, check=False, timeout=60
    )
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout else {"error": done.stderr}


def test_a_recording_is_answered_alike_run_after_run_and_asks_for_its_own_tasks(
    engine: EngineProcess, tmp_path: Path
) -> None:
    file = tmp_path / "t.gor"
    file.write_bytes(recorded(20, callback="http://customer.example.com/told"))
    for options in (("--speed", "max"), ("--speed", "max", "--loop", "--limit", "100", "--workers", "4")):
        code, report = replay(engine, file, *options)
        assert (code, report["different"], report["unanswered"]) == (0, 0, 0), report
        assert report["compared"] == report["sent"]


def test_requests_go_out_at_their_times(engine: EngineProcess, tmp_path: Path) -> None:
    file = tmp_path / "t.gor"
    file.write_bytes(recorded(5, every_ns=200_000_000))
    assert replay(engine, file)[1]["elapsed_s"] >= 0.8
    assert 0.2 <= replay(engine, file, "--speed", "400%")[1]["elapsed_s"] < 0.8


def test_an_answer_that_differs_is_named_and_the_exit_code_tells(
    engine: EngineProcess, tmp_path: Path
) -> None:
    file = tmp_path / "t.gor"
    bad = exchange("x", 0, "POST /v1/engine/task", b'{"targets":["ftp://a/"]}', 202, {"task_id": "t"})
    file.write_bytes(recorded(1) + bad)
    code, report = replay(engine, file, "--speed", "max")
    assert code == 1
    assert report["changes"] == [{"recorded": 202, "answered": 422, "count": 1}]
    [difference] = report["differences"]
    assert "scheme" in difference["detail"] or "http" in difference["detail"]


def test_lines_of_several_tasks_are_compared_and_their_tasks_asked_for(
    engine: EngineProcess, tmp_path: Path
) -> None:
    """Of three lines two are answered as they were; a question is about the new task."""
    file = tmp_path / "t.gor"
    lines = [("ftp://a/", ""), ("http://img.example.com/1", "given-1"), ("ftp://b/", "given-2")]
    file.write_bytes(batch(0, *lines))
    code, report = replay(engine, file, "--speed", "max")
    assert (code, report["compared"], report["same"]) == (1, 5, 3), report
    assert [each["request"] for each in report["differences"]] == [
        "POST /v1/engine/tasks line 3", "GET /v1/engine/task/given-2",
    ]  # fmt: skip


def test_a_damaged_recording_is_sent_as_far_as_it_goes(engine: EngineProcess, tmp_path: Path) -> None:
    file = tmp_path / "t.gor"
    file.write_bytes(recorded(2) + b"1 cut 5\nPOST /v1/engine/task HTTP/1.1\r\n")
    code, report = replay(engine, file, "--speed", "max")
    assert (code, report["sent"], report["same"]) == (1, 4, 4), report


def test_without_an_engine_the_exit_code_is_3(tmp_path: Path) -> None:
    file = tmp_path / "t.gor"
    file.write_bytes(recorded(2))
    command = [
        sys.executable,
        "-m",
        "engine",
        "replay",
        str(file),
        "--engine",
        f"http://127.0.0.1:{free_port()}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (3, "")
    assert "Cannot connect" in done.stderr
