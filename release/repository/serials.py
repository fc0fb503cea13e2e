"""The highest serial of each repository that this machine has seen, so that an older index is refused.

A repository is known by the id in its signed index, whatever its address is called, and by its address
besides: that is all that an index of the version before has. One small file per id and per address under
``state_dir``. Two processes at once keep the higher serial.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from release.agent.files import sync_folder, sync_name_of
from release.errors import RepositoryError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class SerialMemory:
    """The memory for the repository *url*, in the folder *state_dir*."""

    def __init__(self, state_dir: Path, url: str) -> None:
        self._url = _plain(url)
        self._folder = state_dir / "serials"
        self.path = self._file(self._url)  #: of the address

    def known(self) -> dict[str, bytes]:
        """Return what is remembered now, for `highest`: an index that is read later is no older than that."""
        found = {}
        try:
            for path in self._folder.glob("*.json"):
                found[path.name] = path.read_bytes()
        except OSError as exc:
            raise RepositoryError(f"{self._folder}: cannot be read ({exc})") from exc
        return found

    def highest(self, repository: str, known: Mapping[str, bytes] | None = None) -> int:
        """Return the highest serial seen, 0 for none.

        Args:
            repository: id in the index; empty: it has none.
            known: what `known` gave before; None: what there is now.

        Raises:
            RepositoryError: a file cannot be read; forgetting it must be somebody's decision.
        """
        texts = self.known() if known is None else known
        return max(self._serial(path, texts) for path in self._files(repository))

    def repository(self) -> str:
        """Return the id that the index at this address had; empty for none."""
        try:
            found = json.loads(self.path.read_bytes()).get("repository")
        except (OSError, ValueError, AttributeError):
            return ""
        return found if isinstance(found, str) else ""

    def remember(self, serial: int, repository: str) -> None:
        """Note that *serial* was seen.

        Raises:
            RepositoryError: a file cannot be read or written.
        """
        if all(serial <= self._serial(path, self.known()) for path in self._files(repository)):
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self.path.with_suffix(".lock").open("a", encoding="utf-8") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                for path in self._files(repository):
                    if serial > self._serial(path, self.known()):
                        self._write(path, serial, repository)
        except OSError as exc:
            raise RepositoryError(f"{self._folder}: cannot be written: {exc.strerror}") from exc

    def _files(self, repository: str) -> list[Path]:
        return [self.path, *([self._file(f"repository {repository}")] if repository else [])]

    def _file(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"

    def _serial(self, path: Path, known: Mapping[str, bytes]) -> int:
        if path.name not in known:
            return 0
        try:
            return int(json.loads(known[path.name])["serial"])
        except (ValueError, TypeError, KeyError) as exc:
            raise RepositoryError(
                f"{path}: cannot be read ({exc}); it guards against old indexes of {self._url}: "
                "remove it only if you trust what is there now"
            ) from exc

    def _write(self, path: Path, serial: int, repository: str) -> None:
        temporary = path.with_suffix(".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump({"url": self._url, "repository": repository, "serial": serial}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(self._folder)
        sync_name_of(self._folder)


def _plain(url: str) -> str:
    """Return an address with its scheme and host in small letters; a folder as it is."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    user, mark, host = parts.netloc.rpartition("@")
    return parts._replace(scheme=parts.scheme.lower(), netloc=f"{user}{mark}{host.lower()}").geturl()
