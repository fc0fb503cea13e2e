"""The state tree as a whole: what salt-lint and the conventions of formulas say."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from release.settings import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SLS = sorted((ROOT / "salt").rglob("*.sls"))
FILES = sorted(
    path for path in (ROOT / "salt").rglob("*") if path.is_file() and path.name != "pillar.example"
)


def test_salt_lint_finds_nothing(salt_programs: Path) -> None:
    done = subprocess.run(
        [salt_programs / "salt-lint", "--nocolor", *SLS], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_begins_with_what_it_is_for(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    name = path.relative_to(ROOT / "salt").as_posix()
    names = (name, path.name.removesuffix(".j2"))
    assert first.startswith('"""') or any(
        f"{mark}{name}: " in first for mark in ("# ", "{#- ") for name in names
    )


def test_the_folder_does_not_shadow_the_package_of_salt() -> None:
    assert not (ROOT / "salt/__init__.py").exists()
