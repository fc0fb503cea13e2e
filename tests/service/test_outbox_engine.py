"""The outbox and a real engine: what it refuses, and commands that are killed; counted at a cache."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from engine.cli import main as cli
from engine.client import Client, Outbox
from tests.fakes.node import FakeNode
from tests.rigs.engine_process import ROOT, EngineProcess, fake_table
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

DEAD = "http://127.0.0.1:1"
SITE = "http://img.example.com"


def tables(node: FakeNode, token: str) -> str:
    digest = hashlib.sha256(token.encode()).hexdigest()
    return (
        fake_table(node.url, name="edge-1")
        + f'[[auth.tokens]]\nname = "cms"\nsha256 = "{digest}"\nscopes = ["submit", "read"]\n'
        + 'sites = ["img.example.com"]\n[[site]]\nhost = "*.example.com"\n'
    )


def test_a_refused_token_keeps_all_and_another_tasks_id_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is purged twice, though a task is in the outbox that the engine has by then."""
    outbox = Outbox(tmp_path / "outbox")
    monkeypatch.setenv("PURGELINE_OUTBOX", str(outbox.folder))
    for name, url in (
        ("a", f"{SITE}/a"),
        ("b", f"{SITE}/b"),
        ("other", "http://www.example.com/"),
        ("c", f"{SITE}/c"),
    ):
        assert cli.main(["purge", url, "--id", name, "--engine", DEAD]) == 3
    with FakeNode() as node, EngineProcess(tmp_path, tables(node, "s3cret")) as engine:
        monkeypatch.setenv("PURGELINE_URL", f"{DEAD},http://127.0.0.1:{engine.port}")
        monkeypatch.setenv("PURGELINE_TOKEN", "wrong")
        assert cli.main(["outbox", "send"]) == 2
        assert len(outbox.entries()) == 4
        monkeypatch.setenv("PURGELINE_TOKEN", "s3cret")
        with Client() as client:
            client.prefetch(f"{SITE}/a", id="a")
            client.purge(f"{SITE}/b", id="b")
            capsys.readouterr()
            assert cli.main(["outbox", "send"]) == 1
            assert capsys.readouterr().out == "sent 2\nwaiting 0\nrefused 2\n"
            reasons = {entry.task_id: outbox.read(entry)["reason"] for entry in outbox.refused()}
            assert [client.wait(name).state for name in "abc"] == ["done"] * 3
        assert "(409)" in reasons["a"]
        assert "'www.example.com' is outside the sites" in reasons["other"]
        assert Counter(node.urls) == {f"{SITE}/{name}": 1 for name in "abc"}


@pytest.mark.slow
def test_commands_that_are_killed_at_any_time_lose_no_purge_that_they_told_of(tmp_path: Path) -> None:
    draw = random.Random(19)
    folder = str(tmp_path / "outbox")
    told = []

    def start(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "engine", *words, "--outbox", folder]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    for number in range(60):
        process = start("purge", f"{SITE}/{number}", "--id", f"t{number}", "--engine", DEAD)
        if number % 4:
            time.sleep(draw.uniform(0.05, 0.25))
            process.kill()
        if "spooled" in process.communicate()[0]:
            told.append(number)
    assert len(told) >= 15
    with FakeNode() as node, EngineProcess(tmp_path, fake_table(node.url, name="edge-1")) as engine:
        url = f"http://127.0.0.1:{engine.port}"
        for _ in range(10):
            senders = [start("outbox", "send", "--engine", url) for _ in range(2)]
            time.sleep(draw.uniform(0.1, 0.3))
            for sender in senders:
                sender.kill()
                sender.communicate()
        last = start("outbox", "send", "--engine", url)
        assert (last.communicate()[1], last.returncode) == ("", 0)
        kept = {f"{SITE}/{number}" for number in told}
        wait_until(lambda: kept <= set(node.urls), what="all purges that were told of")
        assert max(Counter(node.urls).values()) == 1
