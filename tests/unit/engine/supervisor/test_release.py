"""The folder that a worker runs from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.supervisor.errors import SupervisorError
from engine.supervisor.release import Release

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    python = tmp_path / "releases/1.0/venv/bin/python"
    python.parent.mkdir(parents=True)
    python.touch(0o755)
    return tmp_path / "releases/1.0"


def test_a_link_is_resolved_once(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("releases/1.0")
    assert Release.at(tmp_path / "current") == Release(str(folder), "")


def test_the_manifest_names_the_version_unless_it_is_given(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"version": "1.0.3"}')
    assert Release.at(folder).version == "1.0.3"
    assert Release.at(folder, "9").version == "9"
    (folder / "manifest.json").write_text("[")
    assert Release.at(folder).version == ""


def test_what_holds_no_release_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SupervisorError, match="no such folder"):
        Release.at(tmp_path / "nothing")
    (folder / "venv/bin/python").chmod(0o644)
    with pytest.raises(SupervisorError, match="is missing or not executable"):
        Release.at(folder)


def test_it_is_called_by_its_version_if_that_is_known() -> None:
    assert [str(Release("/r", "1")), str(Release("/r")), str(Release(""))] == ["1", "/r", "its own"]
