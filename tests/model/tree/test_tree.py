"""A round of a tree in which everything fails; `tests.model.tree` tells of longer ones."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.model.tree.rounds import missing
from tests.rigs.engine_process import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real,
    pytest.mark.redis,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(missing()), reason="needs namespaces, redis-server and all four caches"),
]


def run(*options: str) -> str:
    command = [sys.executable, "-m", "tests.model", "--processes", "--tree", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 violations" in done.stdout
    return done.stdout


def test_nothing_is_lost_and_nothing_is_done_twice_without_a_reason() -> None:
    assert " tasks done" in run("--minutes", "0.6")


def test_where_nothing_fails_every_cache_is_purged_once() -> None:
    """But for what a machine that is too slow makes time out."""
    said = run("--minutes", "0.2", "--faults", "none")
    assert "sent twice" not in said or "the model itself was slow" in said


def test_a_root_that_breaks_a_rule_is_found() -> None:
    """It takes for done what has begun; hands down what is done; forgets what it handed down."""
    command = [sys.executable, "-m", "tests.model", "--processes", "--tree", "--broken"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
