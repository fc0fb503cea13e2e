"""What docs/client.md shows is run: with all engines away, then at a real engine and a scripted cache."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from engine.client import Client, Outbox
from tests.fakes.node import FakeNode
from tests.rigs.engine_process import EngineProcess, fake_table

if TYPE_CHECKING:
    import pytest

PAGE = Path(__file__).parents[2] / "docs/client.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def run(example: str, folder: Path, *urls: str) -> None:
    """Run an example, its engines and its folder being those of this test."""
    example = example.replace("/var/spool/purgeline", str(folder))
    for number, url in enumerate(urls, start=1):
        example = example.replace(f"http://cdn-{number}:9181", url)
    exec(compile(example, str(PAGE), "exec"), {})


def test_the_examples_work_and_all_that_was_spooled_reaches_the_cache_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = "http://127.0.0.1:1"
    monkeypatch.setenv("PURGELINE_URL", dead)
    folder = tmp_path / "outbox"
    with Client(outbox=folder, total_timeout_s=0.05) as client:
        names = [client.purge(f"http://img.example.com/{name}.jpg").task_id for name in "de"]
    with FakeNode() as node, EngineProcess(tmp_path, fake_table(node.url, name="edge-1")) as engine:
        url = f"http://127.0.0.1:{engine.port}"
        run(EXAMPLES[0], folder, dead, url)
        assert capsys.readouterr().out == "done [('edge-1', 1)]\n"
        monkeypatch.setenv("PURGELINE_URL", f"{dead},{url}")
        run(EXAMPLES[1], folder)
        assert capsys.readouterr().out == "['accepted', 'accepted']\n"
        with Client() as client:
            assert [client.wait(name).state for name in names] == ["done", "done"]
            [known] = client.history("http://img.example.com/a.jpg").tasks
            assert (known.task_id, known.nodes[0].acked) == ("release-42", 1)
            assert client.why("http://img.example.com/a.jpg").nodes[0].name == "edge-1"
        purged = sorted(request.path for request in node.requests if request.method == "PURGE")
    assert Outbox(folder).entries() == []
    assert purged == [f"/{name}.jpg" for name in "abcde"]
