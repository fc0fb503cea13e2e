"""docs/caches/: what each page has typed is typed, in an empty folder, and does what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from release.lab.caches import free_port
from tests.cache_docs import FOLDER

PORTS = re.compile(r"\b(8080|808[12]|6081|3128|9181)\b")
ENGINE = '[engine]\nlisten = "127.0.0.1:9181"\n'


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(FOLDER.glob("*.md")), ids=lambda path: path.stem)
def test_a_page_leads_from_nothing_to_a_purge(page: Path) -> None:
    """On other ports; the processes end with the shell's group."""
    text = page.read_text(encoding="utf-8")
    script = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0]
    script = script.replace("<<END\n[[node]]", f"<<END\n{ENGINE}[[node]]") + "kill $(jobs -p)\nwait\n"
    ports = {old: str(free_port()) for old in set(PORTS.findall(script))}
    script = PORTS.sub(lambda found: ports[found[1]], script)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
    env = {**os.environ, "PATH": path, "PURGELINE_URL": f"http://127.0.0.1:{ports['9181']}"}
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="page-") as folder:
        Path(folder).chmod(0o755)
        done = subprocess.run(
            ["bash", "-e", "-c", script],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        logs = "".join(f"{log.name}: {log.read_text()}" for log in Path(folder).glob("*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    lines = done.stdout.splitlines()
    assert [line for line in lines if line in {"one", "two"}] == ["one", "one", "two"], done.stdout + logs
    assert any(line.startswith("accepted: ") for line in lines)
    [proof] = [line for line in text.splitlines() if "\tproven\t" in line]
    assert proof in [line.rstrip("\t") for line in lines]
