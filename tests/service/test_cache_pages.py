"""docs/caches/: what each page has typed is typed, in an empty folder, and does what the page says."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from release.lab.caches import free_port
from tests.cache_docs import FOLDER

PORTS = re.compile(r"\b(8080|808[12]|6081|3128|9181)\b")
ENGINE = '[engine]\nlisten = "127.0.0.1:9181"\n'


def typed(script: str, folder: Path, env: dict[str, str]) -> tuple[int, str]:
    """Run a script; return its exit code and what was said. What it started ends with it."""
    command = ["bash", "-e", "-c", f"trap 'kill $(jobs -p); wait' EXIT\n{script}"]
    pipe = subprocess.PIPE
    shell = subprocess.Popen(
        command, cwd=folder, env=env, stdout=pipe, stderr=subprocess.STDOUT, text=True, process_group=0
    )
    try:
        said, _ = shell.communicate(timeout=100)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
    return shell.returncode, said


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(FOLDER.glob("*.md")), ids=lambda path: path.stem)
def test_a_page_leads_from_nothing_to_a_purge(page: Path) -> None:
    """On other ports; the processes end with the shell's group."""
    text = page.read_text(encoding="utf-8")
    script = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0]
    script = script.replace("<<END\n[[node]]", f"<<END\n{ENGINE}[[node]]")
    ports = {old: str(free_port()) for old in set(PORTS.findall(script))}
    script = PORTS.sub(lambda found: ports[found[1]], script)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
    env = {**os.environ, "PATH": path, "PURGELINE_URL": f"http://127.0.0.1:{ports['9181']}"}
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="page-") as folder:
        Path(folder).chmod(0o755)
        code, said = typed(script, Path(folder), env)
        logs = "".join(f"{log.name}: {log.read_text()}" for log in Path(folder).glob("*.log"))
    assert code == 0, said + logs
    lines = said.splitlines()
    assert [line for line in lines if line in {"one", "two"}] == ["one", "one", "two"], said + logs
    assert any(line.startswith("accepted: ") for line in lines)
    [proof] = [line for line in text.splitlines() if "\tproven\t" in line]
    assert proof in [line.rstrip("\t") for line in lines]
