"""Completion in real shells: commands and options, and names that the engine is asked for."""

from __future__ import annotations

import os
import pty
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.cli import main as cli
from engine.cli.shell import COMPLETIONS, MAN_PAGE
from tests.fakes.engine import FakeEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "templates" / "shell"
BASH = """
. templates/shell/purgeline.bash
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_shtab_purgeline purgeline "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def environ(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The command is on the path, and its engine has two nodes."""
    command = tmp_path / "bin" / "purgeline"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\ncd {shlex.quote(str(ROOT))} && exec {sys.executable} -m engine "$@"\n')
    command.chmod(0o755)
    with FakeEngine().running() as engine:
        nodes = [{"name": name, "state": "ready"} for name in ("edge-1", "edge-2")]
        engine.script["GET /v1/engine/nodes"] = [(200, {"nodes": nodes})]
        path = f"{command.parent}:{os.environ['PATH']}"
        yield {**os.environ, "PATH": path, "PURGELINE_URL": engine.url, "HOME": str(tmp_path), "TERM": "dumb"}


def printed(command: list[str], environ: dict[str, str]) -> list[str]:
    done = subprocess.run(
        command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


def test_bash_completes_commands_options_choices_and_nodes(environ: dict[str, str]) -> None:
    def completed(*words: str) -> list[str]:
        return printed(["bash", "--norc", "-c", BASH, "bash", "purgeline", *words], environ)

    assert completed("pu") == ["purge"]
    assert completed("purge", "--on-i") == ["--on-incapable"]
    assert completed("purge", "--on-incapable", "") == ["refuse", "skip"]
    assert completed("pause", "edge") == ["edge-1", "edge-2"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish")
def test_fish_completes_commands_options_and_nodes(environ: dict[str, str]) -> None:
    def completed(line: str) -> list[str]:
        script = f"source {FOLDER / COMPLETIONS['fish']}; complete -C {shlex.quote(line)}"
        return [one.partition("\t")[0] for one in printed(["fish", "--no-config", "-c", script], environ)]

    assert completed("purgeline pu") == ["purge"]
    assert completed("purgeline purge --on-i") == ["--on-incapable"]
    assert completed("purgeline pause ") == ["edge-1", "edge-2"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh")
def test_zsh_completes_commands_options_and_nodes(environ: dict[str, str]) -> None:
    """On a terminal: its completion runs nowhere else."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execve(shutil.which("zsh") or "", ["zsh", "-f", "-i"], environ)
    shown = b""

    def send(text: str, until: str) -> None:
        nonlocal shown
        os.write(terminal, text.encode())
        while until.encode() not in shown:
            shown += os.read(terminal, 65536)
        shown = b""

    send("autoload -U compinit; compinit -D -u\n", "compinit -D")
    send('eval "$(purgeline completion zsh)"; echo rea""dy\n', "ready")
    for typed, until in (("pu\t", "purge "), ("purge --on-i\t", "--on-incapable"), ("pause \t", "edge-")):
        send(f"purgeline {typed}", until)
        send("\x15", "")
    os.close(terminal)
    os.waitpid(pid, 0)


@pytest.mark.parametrize("name", [*COMPLETIONS, "man"])
def test_the_command_prints_the_files(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["man"] if name == "man" else ["completion", name]) == 0
    text = (FOLDER / COMPLETIONS.get(name, MAN_PAGE)).read_text(encoding="utf-8")
    assert capsys.readouterr() == (text, "")
