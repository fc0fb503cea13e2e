"""What is executed: the supervisor's own program and its workers."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from engine.supervisor.errors import SupervisorError
from engine.supervisor.options import parse
from engine.supervisor.program import FOLDER, Program, sha256_of
from engine.supervisor.release import Release


def program(*command: str, version: str = "") -> Program:
    return Program(path=FOLDER, sha256="", worker_command=list(command) or None, version=version)


def test_a_worker_is_its_releases_own_python() -> None:
    command = program().command_of(Release("/r/1"), Path("/c.toml"))
    assert command == ["/r/1/venv/bin/python", "-I", "-m", "engine", "worker", "--config", "/c.toml"]


def test_a_given_command_stands_in_for_all_releases() -> None:
    own = program("python", "worker", version="1.0")
    assert own.command_of(Release(""), Path("/c.toml")) == ["python", "worker", "--config", "/c.toml"]
    assert own.first_release(parse(["--config", "c.toml"])) == Release("", "1.0")


def test_without_root_and_release_there_is_nothing_to_run() -> None:
    with pytest.raises(SupervisorError, match="--release or --root is needed"):
        program().first_release(parse(["--config", "c.toml"]))


def test_the_first_release_is_the_current_one(tmp_path: Path) -> None:
    with pytest.raises(SupervisorError, match="/current: no such folder"):
        program().first_release(parse(["--root", str(tmp_path)]))


def test_a_program_is_known_by_the_digest_of_all_its_files(tmp_path: Path) -> None:
    file = tmp_path / "supervisor.py"
    file.write_text("pass\n")
    assert sha256_of(file) == hashlib.sha256(b"pass\n").hexdigest()
    before = sha256_of(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/supervisor.pyc").touch()
    assert sha256_of(tmp_path) == before
    (tmp_path / "new.py").touch()
    assert sha256_of(tmp_path) != before
