"""What is executed: the supervisor itself, and its workers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .__main__ import digest_of
from .errors import USAGE, SupervisorError
from .release import Release

if TYPE_CHECKING:
    from .options import Options

FOLDER: Final = Path(__file__).absolute().parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What runs here, and what workers are started with.

    Attributes:
        path: a file or folder that ``python3 -I`` runs; `replace` executes it when it is told no other.
        sha256: of that file, or of all files of that folder.
        worker_command: starts a worker instead of the release's own Python.
        version: that such a worker must have; empty: any.
    """

    path: Path
    sha256: str
    worker_command: list[str] | None
    version: str

    def command_of(self, release: Release, config: Path) -> list[str]:
        """Return what a worker of a release is started with: isolated from the caller's Python."""
        python = f"{release.directory}/venv/bin/python"
        start = self.worker_command or [python, "-I", "-m", "engine", "worker"]
        return [*start, "--config", str(config)]

    def first_release(self, options: Options) -> Release:
        """Return what the first workers run.

        Raises:
            SupervisorError: nothing says it, or the folder holds no release.
        """
        if self.worker_command is not None:
            return Release("", self.version)
        directory = options.release or (options.root and options.root / "current")
        if directory is None:
            raise SupervisorError("--release or --root is needed: what to run", exit_code=USAGE)
        return Release.at(directory)


def sha256_of(path: Path) -> str:
    """Return the digest of a program: a file's, or that of a folder's files."""
    return digest_of(path) if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
