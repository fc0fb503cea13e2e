"""Programs with an environment of their own, ``.venv-NAME``: Salt, what makes the site, what benchmarks need.

Salt and the peers of benchmarks need packages at older versions than the engine's environment has, and what
makes the site of docs/ is needed by nobody else. The pipeline runs their programs, and imports nothing of
them. An environment is made anew when its lock has changed. A stamp, written last, tells which lock it was
filled from, so an installation that was cut short is done again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from release.errors import ReleaseError
from release.settings import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STAMP: Final = "locks.sha256"


@dataclass(frozen=True, slots=True)
class Environment:
    """One of them, made or not.

    Attributes:
        name: ends the names of its folder and its lock, and is its dependency group in pyproject.toml.
        takes: how long it takes to make, for a person.
        root: the project's folder.
        of: ends the name of its lock, where that is another's.
        python: the interpreter that it is made with; empty: this one.
    """

    name: str
    takes: str = "some seconds"
    root: Path = ROOT
    of: str = ""
    python: str = ""

    @property
    def folder(self) -> Path:
        """The folder of the environment."""
        return self.root / f".venv-{self.name}"

    @property
    def lock(self) -> Path:
        """The file that says what is in it, with hashes."""
        return self.root / f"requirements-{self.of or self.name}.lock"

    def is_current(self) -> bool:
        """Tell whether the environment exists and was made from the lock as it is now.

        Raises:
            ReleaseError: the lock cannot be read.
        """
        digest = self._digest()
        try:
            return (self.folder / STAMP).read_text(encoding="utf-8") == digest
        except OSError:
            return False

    def ensure(self, *, say: Callable[[str], object] = print) -> Path:
        """Make the environment unless it is current; return its folder of programs.

        A second caller waits for the first and finds all done.

        Args:
            say: takes each line meant for a person.

        Raises:
            ReleaseError: the lock cannot be read or pip failed; it has said why on stderr.
        """
        programs = self.folder / "bin"
        if self.is_current():
            return programs
        guard = os.open(f"{self.folder}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(guard, fcntl.LOCK_EX)
            if not self.is_current():
                say(f"setting up {self.folder} ({self.takes}) ...")
                self._fill()
        finally:
            os.close(guard)
        return programs

    def _fill(self) -> None:
        (self.folder / STAMP).unlink(missing_ok=True)
        python = str(self.folder / "bin/python")
        pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
        lock = ["--no-deps", "--require-hashes", "--requirement", str(self.lock)]
        for command in (
            [self.python or sys.executable, "-m", "venv", "--clear", "--without-pip", str(self.folder)],
            [*pip, "--no-input", "install", "-qq", *lock],
        ):
            if subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode:
                raise ReleaseError(f"could not fill {self.folder}; run the same command again to go on")
        (self.folder / STAMP).write_text(self._digest(), encoding="utf-8")

    def _digest(self) -> str:
        """Name the lock and the place: an environment does not survive a move."""
        try:
            return hashlib.sha256(f"{self.root}\n".encode() + self.lock.read_bytes()).hexdigest()
        except OSError as exc:
            raise ReleaseError(f"{self.lock}: cannot be read: {exc}") from exc


SALT: Final = Environment("salt", "about a minute")
DOCS: Final = Environment("docs")
BENCH: Final = Environment("bench", "half a minute")
