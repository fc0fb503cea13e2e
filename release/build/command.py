"""Steps of building the wheel: templates, states and the version go into the packages.

`pyproject.toml` names them to setuptools, which loads this file alone and with nothing of ours on its path.

The version is that of the commit, as `release.build.version` decides it, so a wheel built from a tag has the
tag's, whoever builds it. Files without git, such as an sdist's or those that ``pack`` exports, say
it themselves.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final

from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT: Final = Path(__file__).resolve().parents[2]
STAMPED: Final = "engine/_version.py"
#: Folder of the tree → where it is in the wheel, whose code finds it there.
FOLDERS: Final = {"templates": "engine/templates", "salt": "release/salt"}


def stamp() -> str:
    """Return the text of the module with the version, for the tree that is built."""
    if not (ROOT / ".git").exists():
        return (ROOT / STAMPED).read_text(encoding="utf-8")
    sys.path.insert(0, str(ROOT))
    try:
        from release.build import version  # noqa: PLC0415 - see the module
        from release.errors import VersionError  # noqa: PLC0415

        try:
            return version.module_text(version.determine(ROOT, allow_dirty=True))
        except VersionError as exc:
            print(f"the version is the one of {STAMPED}: {exc}", file=sys.stderr)
            return (ROOT / STAMPED).read_text(encoding="utf-8")
    finally:
        sys.path.remove(str(ROOT))


_TEXT: Final = stamp()
#: Folder of compiled modules that go into the wheel, and the tag of a wheel with them; empty: sources alone.
COMPILED: Final = os.environ.get("PURGELINE_COMPILED", "")
TAG: Final = os.environ.get("PURGELINE_TAG", "")
VERSION: Final = _TEXT.partition('__version__ = "')[2].partition('"')[0]


class BuildPy(build_py):  # type: ignore[misc]  # setuptools has no types
    """Builds the packages with what lies beside them in the tree; an editable install finds that there."""

    def run(self) -> None:
        """Build."""
        super().run()
        if self.editable_mode:
            return
        for name, place in FOLDERS.items():
            folder = Path(self.build_lib, place)
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(ROOT / name, folder, copy_function=shutil.copyfile)
        _write(Path(self.build_lib, STAMPED))
        if COMPILED:
            shutil.copytree(COMPILED, self.build_lib, dirs_exist_ok=True, copy_function=shutil.copyfile)


class BdistWheel(bdist_wheel):  # type: ignore[misc]  # as above
    """Makes the wheel: for every machine, or with compiled modules for one kind of Python and machine."""

    def finalize_options(self) -> None:
        """Say whether the wheel is of sources alone."""
        if COMPILED:
            self.distribution.has_ext_modules = lambda: True
        super().finalize_options()

    def get_tag(self) -> tuple[str, str, str]:
        """Return Python, ABI and platform."""
        if not COMPILED:
            return super().get_tag()  # type: ignore[no-any-return]
        python, abi, platform = TAG.split("-")
        return python, abi, platform


class Sdist(sdist):  # type: ignore[misc]  # as above
    """Makes the source archive with all that a wheel is built from."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """Copy the files."""
        super().make_release_tree(base_dir, files)
        for name in FOLDERS:
            shutil.copytree(ROOT / name, Path(base_dir, name), dirs_exist_ok=True)
        shutil.copyfile(ROOT / "requirements.lock", Path(base_dir, "requirements.lock"))
        _write(Path(base_dir, STAMPED))


def _write(path: Path) -> None:
    path.unlink(missing_ok=True)  # it may be a link to the tree's own
    path.write_text(_TEXT, encoding="utf-8")
