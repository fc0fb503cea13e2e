"""release.states.environment: made when missing or outdated, by one caller only, and again when cut short."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from release.errors import ReleaseError
from release.states import environment

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with a lock that asks for nothing, so that nothing is fetched."""
    (tmp_path / environment.LOCK).write_text("# nothing\n")
    return tmp_path


def test_it_is_made_once_and_again_when_the_lock_changes(root: Path) -> None:
    said: list[str] = []
    assert not environment.is_current(root)
    programs = environment.ensure(root, say=said.append)
    assert (programs / "python").exists()
    environment.ensure(root, say=said.append)
    assert len(said) == 1
    (root / environment.LOCK).write_text("# nothing else\n")
    assert not environment.is_current(root)


def test_two_at_once_make_it_once(root: Path) -> None:
    said: list[str] = []
    threads = [
        threading.Thread(target=environment.ensure, args=(root,), kwargs={"say": said.append}) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert environment.is_current(root)
    assert len(said) == 1


def test_a_failed_installation_is_not_taken_for_done(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (root / environment.LOCK).write_text(f"nowhere-to-be-found==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(ReleaseError, match="could not fill"):
        environment.ensure(root, say=lambda _line: None)
    assert not environment.is_current(root)


def test_no_lock_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"requirements-salt\.lock: cannot be read"):
        environment.ensure(tmp_path)
