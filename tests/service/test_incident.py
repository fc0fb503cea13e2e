"""A page is stale on one cache: what was the matter, and what mends it, by the commands of an operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.cli.main import main
from tests.fakes.node import OK, FakeNode, Request, answer
from tests.rigs import restored
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

URL = "http://img.example.com/a.jpg"


class Shell:
    """Types commands, and reads what they print."""

    def __init__(self, engine: EngineProcess, capsys: pytest.CaptureFixture[str]) -> None:
        self._options = ["--engine", f"http://127.0.0.1:{engine.port}"]
        self._capsys = capsys

    def run(self, *words: str, code: int = 0) -> str:
        """Return what a command prints, on whichever stream; its exit code must be *code*."""
        self._capsys.readouterr()
        assert main([*self._options, *words]) == code, self._capsys.readouterr()
        return "".join(self._capsys.readouterr())


def test_a_cache_that_was_taken_out_by_mistake_is_made_fresh_by_a_retry(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeNode() as edge, FakeNode() as seven:
        out = fake_table(edge.url, name="edge-1")
        tables = out + fake_table(seven.url, name="edge-7")
        seven.stop()  # its rack has no power
        with EngineProcess(tmp_path, tables, gone_after_s=0.2) as engine:
            shell = Shell(engine, capsys)
            shell.run("purge", URL, "--id", "release-42", "--wait", code=1)
            engine.stop()
            engine.configure(out)  # and somebody takes it out
            engine.start()
            engine.wait_for("release-42", "failed")
            engine.stop()
            engine.configure(tables)  # it is put back, and serves what it had
            seven.start()
            engine.start()
            line = shell.run("history", URL, "--node", "edge-7", "--since", "1h").strip()
            assert "edge-7 failed" in line
            assert "release-42" in line
            said = shell.run("status", "release-42", code=1)
            assert "gone: not configured since" in said
            assert "`purgeline retry release-42` sends what failed again" in said
            assert "edge-7" in shell.run("nodes")
            assert seven.urls == []
            assert "done" in shell.run("retry", "release-42", "--wait")
            assert (seven.urls, len(edge.urls)) == ([URL], 1)
            lines = shell.run("history", URL, "--node", "edge-7").splitlines()
            assert [("edge-7 acked" in line, "edge-7 failed" in line) for line in lines] == [
                (True, False),
                (False, True),
            ]
            assert "which is done" in shell.run("retry", "release-42", code=1)


def test_a_cache_that_refused_gets_the_same_purge_when_it_is_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody has to retry anything."""
    is_mended = False

    def script(request: Request) -> Iterator[bytes]:
        yield OK if is_mended or request.path.startswith("/.purgeline-probe") else answer(403)

    with FakeNode(script) as edge, EngineProcess(tmp_path, fake_table(edge.url, name="edge-7")) as engine:
        shell = Shell(engine, capsys)
        shell.run("purge", URL, "--id", "release-43", "--wait", code=1)
        assert "edge-7 delayed" in shell.run("history", URL)
        assert "refused: answered 403" in shell.run("status", "release-43", code=1)
        assert "what waits is delivered by itself" in shell.run("retry", "release-43", code=1)
        is_mended = True
        engine.wait_for("release-43", "done")
        wait_until(lambda: "edge-7 acked" in shell.run("history", URL), what="the history")


@pytest.mark.slow
@pytest.mark.real
def test_a_cache_that_was_restored_from_a_snapshot_serves_nothing_stale_when_it_is_rewound(
    tmp_path: Path,
) -> None:
    found = restored.rewound(tmp_path, objects=1000, rate_per_s=1000)
    assert (found.stale_before, found.stale_after, found.targets) == (1000, 0, 1000)
