"""release.lab.environment: made when missing or outdated, by one caller only, and again when cut short."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from release.errors import ReleaseError
from release.lab.environment import Environment

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """One of a project with a lock that asks for nothing, so that nothing is fetched."""
    (tmp_path / "requirements-x.lock").write_text("# nothing\n")
    return Environment("x", root=tmp_path)


def test_it_is_made_once_and_again_when_the_lock_changes(environment: Environment) -> None:
    said: list[str] = []
    assert not environment.is_current()
    programs = environment.ensure(say=said.append)
    assert (programs / "python").exists()
    environment.ensure(say=said.append)
    assert len(said) == 1
    environment.lock.write_text("# nothing else\n")
    assert not environment.is_current()


def test_two_at_once_make_it_once(environment: Environment) -> None:
    said: list[str] = []
    threads = [threading.Thread(target=environment.ensure, kwargs={"say": said.append}) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert environment.is_current()
    assert len(said) == 1


def test_a_failed_installation_is_not_taken_for_done(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    environment.lock.write_text(f"nowhere-to-be-found==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(ReleaseError, match="could not fill"):
        environment.ensure(say=lambda _line: None)
    assert not environment.is_current()


def test_no_lock_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"requirements-x\.lock: cannot be read"):
        Environment("x", root=tmp_path).ensure()
