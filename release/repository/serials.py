"""The highest serial of each repository that this machine has seen, so that an older index is refused.

One small file per repository under ``state_dir``. Two processes at once keep the higher serial.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from typing import TYPE_CHECKING

from release.errors import RepositoryError

if TYPE_CHECKING:
    from pathlib import Path


class SerialMemory:
    """The memory for the repository *url*, in the folder *state_dir*."""

    def __init__(self, state_dir: Path, url: str) -> None:
        self._url = url
        self.path = state_dir / "serials" / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.json"

    def highest(self) -> int:
        """Return the highest serial seen, 0 for none.

        Raises:
            RepositoryError: the file cannot be read; forgetting it must be somebody's decision.
        """
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            return int(stored["serial"])
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, TypeError, KeyError) as exc:
            raise RepositoryError(
                f"{self.path}: cannot be read ({exc}); it guards against old indexes of {self._url}: "
                "remove it only if you trust what is there now"
            ) from exc

    def remember(self, serial: int) -> None:
        """Note that *serial* was seen.

        Raises:
            RepositoryError: the file cannot be read or written.
        """
        if serial <= self.highest():
            return
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self.path.with_suffix(".lock").open("a", encoding="utf-8") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if serial > self.highest():
                    self._write(serial)
        except OSError as exc:
            raise RepositoryError(f"{self.path}: cannot be written: {exc.strerror}") from exc

    def _write(self, serial: int) -> None:
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump({"url": self._url, "serial": serial}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)
