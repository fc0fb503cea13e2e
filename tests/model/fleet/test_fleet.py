"""Three engines on each topology, and everything fails; `tests.model.fleet` tells of longer runs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.model.fleet.network import needs
from tests.model.fleet.timetable import REDIS_FAULTS
from tests.rigs.engine_process import ROOT
from tests.rigs.redis_servers import has_redis

pytestmark = [
    pytest.mark.slow,
    pytest.mark.redis,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not has_redis() or bool(needs()), reason="needs redis-server and namespaces"),
]


def run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.model", "--processes", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("topology", REDIS_FAULTS)
def test_nothing_accepted_is_lost_and_nothing_is_falsely_done(topology: str) -> None:
    done = run("--redis", topology, "--minutes", "0.6")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 violations" in done.stdout
    assert " accepted" in done.stdout


def test_engines_that_take_nothing_over_are_found() -> None:
    done = run("--redis", "single", "--broken", "--rules", "takeover")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "<task-" in done.stdout
