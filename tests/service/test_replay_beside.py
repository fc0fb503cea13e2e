"""``purgeline replay --beside``: a recording sent to two real engines, and their answers compared."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from release.lab.caches import free_port
from tests.fakes.node import FakeNode
from tests.fakes.recorded import batch, recorded
from tests.rigs.engine_process import EngineProcess, fake_table

SITE = '[[site]]\nhost = "img.example.com"\n'


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EngineProcess, EngineProcess]]:
    """Two engines with the same cache; the second one has a site more, and takes fewer targets."""
    folder = tmp_path_factory.mktemp("beside")
    (folder / "first").mkdir()
    (folder / "second").mkdir()
    with FakeNode() as node:
        table = fake_table(node.url, name="edge-1")
        with (
            EngineProcess(folder / "first", table) as first,
            EngineProcess(folder / "second", SITE.replace("img", "www") + table) as second,
        ):
            yield first, second
            assert "Traceback" not in first.log() + second.log()


def compare(
    file: Path, engine: EngineProcess, beside: EngineProcess, *options: str
) -> tuple[int, list[dict[str, Any]]]:
    """Run the command at full speed; return its exit code and what it printed."""
    urls = [f"http://127.0.0.1:{each.port}" for each in (engine, beside)]
    command = [sys.executable, "-m", "engine", "replay", str(file), "--json", "--speed", "max", *options]
    done = subprocess.run(
        [*command, "--engine", urls[0], "--beside", urls[1]],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    assert done.stdout, done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_two_engines_that_are_alike(engines: tuple[EngineProcess, EngineProcess], tmp_path: Path) -> None:
    """Each request is sent to both, its task asked for on both, and each slice has latencies of both."""
    file = tmp_path / "t.gor"
    file.write_bytes(recorded(30))
    code, (*slices, report) = compare(
        file, engines[0], engines[0], "--loop", "--limit", "130", "--slice", "25", "--workers", "4"
    )
    assert (code, report["different"], report["results_different"]) == (0, 0, 0), report
    assert report["compared"] == report["engine"]["sent"] == report["beside"]["sent"] == 130
    assert report["results_compared"] == 65
    assert report["engine"]["different"] == report["beside"]["different"] == 0
    assert [each["slice"] for each in slices] == [1, 2, 3, 4, 5, 6, 0]
    assert all(each["engine_p50_ms"] > 0 and each["beside_p90_ms"] > 0 for each in slices[:2])
    assert set(report["latency_ratio"]) == {"p50", "p90"}


def test_what_the_second_engine_answers_otherwise_is_named(
    engines: tuple[EngineProcess, EngineProcess], tmp_path: Path
) -> None:
    first, second = engines
    file = tmp_path / "t.gor"
    lines = [(f"http://img.example.com/{number}", f"line-{number}") for number in range(3)]
    file.write_bytes(recorded(5) + batch(0, *lines))
    code, (*_, report) = compare(file, second, first)
    assert code == 1
    refused = {"beside": 202, "engine": 422, "count": 8}
    assert refused in report["changes"], report["changes"]
    difference = report["differences"][0]
    assert (difference["recorded"], difference["request"]) == (202, "POST /v1/engine/task")
    assert "img.example.com" in difference["detail"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--loop"], "--loop with --beside takes --limit N"),
        (["--beside", "ftp://x"], "--beside or --token: "),
    ],
)
def test_wrong_options_are_told_in_a_sentence(tmp_path: Path, options: list[str], sentence: str) -> None:
    file = tmp_path / "t.gor"
    file.write_bytes(recorded(1))
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        sys.executable,
        "-m",
        "engine",
        "replay",
        str(file),
        "--engine",
        url,
        "--beside",
        url,
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, sentence in done.stderr) == (2, True), done.stderr
