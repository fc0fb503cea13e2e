"""A step of building the wheel: the templates, which lie beside the packages, go into the engine's.

`pyproject.toml` names it to setuptools, which loads this file alone: nothing of ours is imported here.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools.command.build_py import build_py


class BuildPy(build_py):  # type: ignore[misc]  # setuptools has no types
    """Builds the packages, and puts ``templates/`` into ``engine/templates/`` of what is built."""

    def run(self) -> None:
        """Build; an editable install finds the templates where they are."""
        super().run()
        if not self.editable_mode:
            folder = Path(self.build_lib, "engine", "templates")
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree("templates", folder, copy_function=shutil.copyfile)
