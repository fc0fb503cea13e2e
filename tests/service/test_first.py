"""The first minutes: `purgeline init` writes a configuration, and `serve` runs without one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

from engine.cli import main as cli
from engine.config.load import load
from tests.fakes.terminal import ROOT, Terminal

if TYPE_CHECKING:
    from pathlib import Path


def test_init_writes_what_an_engine_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "engine.toml"
    caches = ("varnish=http://127.0.0.1:6081", "nginx=http://127.0.0.1:80")
    options = [word for cache in caches for word in ("--cache", cache)]
    assert cli.main(["init", str(file), *options, "--site", "*.example.com"]) == 0
    settings = load(file, {})
    assert [f"{node.driver}={node.url}" for node in settings.node] == list(caches)
    assert [site.host for site in settings.site] == ["*.example.com"]
    printed = capsys.readouterr()
    assert printed.out == f"{file}\n"
    assert f"purgeline serve --config {file}" in printed.err
    assert cli.main(["check-config", str(file)]) == 0


def test_init_without_options_has_examples_that_are_right_without_their_hash(tmp_path: Path) -> None:
    file = tmp_path / "engine.toml"
    assert cli.main(["init", str(file)]) == 0
    text = file.read_text(encoding="utf-8")
    assert load(file, {}).node == []
    node = text[text.index("# [[node]]") : text.index("# [[origin]]")]
    assert tomllib.loads(re.sub("(?m)^# ", "", node))["node"][0]["driver"] == "varnish"


def test_init_never_writes_over_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "engine.toml"
    file.write_text("mine")
    assert cli.main(["init", str(file), "--yes"]) == 2
    assert "is there already; nothing was written" in capsys.readouterr().err
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cache", "vanish=http://a"], "did you mean 'varnish'?"),
        (["--cache", "varnish=http://a:99999"], "is not http"),
        (["--site", "x y"], "is not a host rule"),
    ],
)
def test_init_refuses_what_no_engine_takes(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["init", str(tmp_path / "engine.toml"), *options]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_init_asks_in_a_terminal(tmp_path: Path) -> None:
    with Terminal("init", str(tmp_path / "e.toml")) as terminal:
        for asked, answer in (
            ("Kind of a cache", "vanish"),
            ("there is no 'vanish'", "squid"),
            ("Where it listens [http://127.0.0.1:3128]", ""),
            ("Kind of the next cache", ""),
            ("Hosts that may be purged", "a.example.com *.b.example.com"),
        ):
            terminal.wait_for(asked)
            terminal.press(f"{answer}\n")
        assert terminal.ended() == 0
    settings = load(tmp_path / "e.toml", {})
    assert [node.url for node in settings.node] == ["http://127.0.0.1:3128"]
    assert [site.host for site in settings.site] == ["a.example.com", "*.b.example.com"]


def test_serve_without_a_configuration_says_where_things_are(tmp_path: Path) -> None:
    environ = {**os.environ, "XDG_STATE_HOME": str(tmp_path), "PURGELINE_ENGINE__LISTEN": "127.0.0.1:0"}
    command = [sys.executable, "-m", "engine", "serve"]
    with subprocess.Popen(command, env=environ, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = [process.stderr.readline() for _ in range(3)]
        process.terminate()
        assert process.wait(30) == 0
    folder = tmp_path / "purgeline"
    assert said[0] == f"purgeline: without --config: listens on 127.0.0.1:0, data in {folder}\n"
    assert said[1].startswith("purgeline: it has no cache: purgeline init writes engine.toml, then ")
    assert json.loads(said[2])["message"].startswith("purgeline ")
    assert (folder / "tasks-0.db").is_file()


def test_workers_need_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--workers", "2"]) == 2
    assert "purgeline init" in capsys.readouterr().err
