"""A repository in a folder of this machine, a network disk included."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from typing import IO, TYPE_CHECKING

from release.agent.files import sync_folder, sync_name_of
from release.errors import RepositoryError
from release.repository.transports.transport import CHUNK_BYTES, TEMPORARY, Stat

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class FolderTransport:
    """A `Transport` to a folder. Files are 0644: a web server may serve the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.url = str(self.folder)

    def read(self, name: str, bytes_max: int) -> bytes | None:
        """See the protocol."""
        with self._errors(f"read {name}"):
            try:
                with (self.folder / name).open("rb") as file:
                    content = file.read(bytes_max + 1)
            except FileNotFoundError:
                return None
        if len(content) > bytes_max:
            raise RepositoryError(f"{self.url}: {name} is larger than {bytes_max} bytes")
        return content

    def stream(self, name: str) -> Iterator[bytes]:
        """See the protocol."""
        with self._errors(f"read {name}"), (self.folder / name).open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def names(self) -> dict[str, Stat]:
        """See the protocol."""
        files = {}
        with self._errors("list the folder"):
            try:
                entries = list(os.scandir(self.folder))
            except FileNotFoundError:
                return {}
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # another publisher was quicker
                    status = entry.stat()
                    files[entry.name] = Stat(status.st_size, status.st_mtime)
        return files

    def stage(self, content: IO[bytes]) -> str:
        """See the protocol."""
        name = TEMPORARY + secrets.token_hex(8)
        path = self.folder / name
        with self._errors("write to it"):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
                with os.fdopen(os.open(path, flags, 0o644), "wb") as file:
                    while chunk := content.read(CHUNK_BYTES):
                        file.write(chunk)
                    file.flush()
                    os.fchmod(file.fileno(), 0o644)
                    os.fsync(file.fileno())
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        return name

    def commit(self, staged: str, name: str) -> None:
        """See the protocol."""
        with self._errors(f"replace {name}"):
            (self.folder / staged).rename(self.folder / name)
            self._sync()

    def claim(self, staged: str, name: str) -> bool:
        """See the protocol. A hard link is made only where nothing has that name."""
        with self._errors(f"write {name}"):
            try:
                os.link(self.folder / staged, self.folder / name)
            except FileExistsError:
                return False
            (self.folder / staged).unlink()
            self._sync()
        return True

    def remove(self, name: str) -> None:
        """See the protocol."""
        with self._errors(f"remove {name}"):
            (self.folder / name).unlink(missing_ok=True)

    def close(self) -> None:
        """There is nothing to close."""

    def _sync(self) -> None:
        """Have a new name, and that of the folder, outlive a power cut."""
        sync_folder(self.folder)
        sync_name_of(self.folder)

    @contextlib.contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            if exc.errno in {errno.ENOSPC, errno.EDQUOT}:
                why = "no space is left there; make room and run it again"
            else:
                why = exc.strerror or str(exc)
            raise RepositoryError(f"repository {self.url}: cannot {doing}: {why}") from exc
