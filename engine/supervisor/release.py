"""What a worker runs."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import SupervisorError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Release:
    """What a worker runs. An empty version is whatever the first worker says."""

    directory: str
    version: str = ""

    def __str__(self) -> str:
        return self.version or self.directory or "its own"

    @classmethod
    def at(cls, directory: Path, version: str = "") -> Release:
        """Return the release of a folder; without a version, that of its manifest if it has one.

        Raises:
            SupervisorError: the folder holds no release.
        """
        directory = directory.resolve()
        python = directory / "venv/bin/python"
        if not directory.is_dir():
            raise SupervisorError(f"{directory}: no such folder; it takes a release, as releases/1.2.3")
        if not os.access(python, os.X_OK):
            raise SupervisorError(f"{directory}: holds no release: {python} is missing or not executable")
        if not version:
            with contextlib.suppress(OSError, ValueError, TypeError):
                version = str(json.loads((directory / "manifest.json").read_bytes()).get("version", ""))
        return cls(str(directory), version)
