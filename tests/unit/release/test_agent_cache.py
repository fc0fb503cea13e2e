"""release.agent.cache: what controllers left on a host goes when nobody comes back for it."""

import os
import time
from pathlib import Path

from release.agent.cache import AGENT_STALE_S, STALE_S, tidy


def old(path: Path, age_s: float) -> Path:
    path.parent.mkdir(exist_ok=True)
    if path.suffix:
        path.write_text("")
    else:
        path.mkdir()
        (path / "answers.py").write_text("")
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def test_old_artefacts_and_agents_go_and_those_in_use_stay(tmp_path: Path) -> None:
    gone = [
        old(tmp_path / "purgeline-1.0-cp311-linux_x86_64.tar.gz", STALE_S + 60),
        old(tmp_path / "purgeline-1.1-cp311-linux_x86_64.tar.gz.0a1b2c3d.part", STALE_S + 60),
        old(tmp_path / "agent-0123", AGENT_STALE_S + 60),
    ]
    stay = [
        old(tmp_path / "purgeline-2.0-cp311-linux_x86_64.tar.gz", STALE_S - 60),
        old(tmp_path / "agent-4567", AGENT_STALE_S - 60),
        old(tmp_path / "salt.lock", AGENT_STALE_S + 60),
    ]
    tidy(tmp_path)
    assert [path.name for path in gone if path.exists()] == []
    assert all(path.exists() for path in stay)
    tidy(tmp_path / "nowhere")
