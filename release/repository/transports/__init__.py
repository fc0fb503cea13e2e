"""How a repository is reached: a folder, SSH, or HTTP to read only. What all of them offer stands here.

A repository is one flat folder: ``index.json``, the artefacts, and while somebody publishes ``publish.lock``
and ``.tmp-*`` files. A transport moves files and knows nothing of what they mean. Its errors are
`RepositoryError`, with the place and the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from release.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from release.settings import Settings

TEMPORARY: Final = ".tmp-"  #: names of files that are not finished begin so
CHUNK_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Stat:
    """One file of a repository."""

    size: int  #: bytes
    changed_at: float  #: by the clock of the repository's machine, UNIX seconds


class Transport(Protocol):
    """One way to a repository. Blocking; for one thread."""

    url: str  #: for messages, without a password

    def read(self, name: str, bytes_max: int) -> bytes | None:
        """Return the content of the file *name*, or ``None`` when there is none.

        Raises:
            RepositoryError: it cannot be read, or is larger than *bytes_max*.
        """

    def stream(self, name: str) -> Iterator[bytes]:
        """Give the content of the file *name* piece by piece.

        Raises:
            RepositoryError: there is none, or it ends early.
        """

    def names(self) -> dict[str, Stat]:
        """Return the files of the repository; none when its folder does not exist yet."""

    def stage(self, content: IO[bytes]) -> str:
        """Write *content* to a new temporary file, safely on disk, and return its name. Makes the folder.

        Raises:
            RepositoryError: it cannot be written, as on a full disk; nothing is left then.
        """

    def commit(self, staged: str, name: str) -> None:
        """Give a staged file its name, in one step, in place of a file that has it."""

    def claim(self, staged: str, name: str) -> bool:
        """As `commit`, but only where no file has that name; tell whether it was done."""

    def remove(self, name: str) -> None:
        """Remove the file *name*; it may be gone already."""

    def close(self) -> None:
        """Close the connection, if any. The next call opens it again."""


def connect(url: str, settings: Settings, base: Path) -> Transport:
    """Return the transport for *url*: a folder (relative: to *base*), ``ssh://``, ``http://``, ``https://``.

    Raises:
        SettingsError: it is none of these.
    """
    if "://" not in url:
        from release.repository.transports.folder import FolderTransport  # noqa: PLC0415  # only the one that is used

        return FolderTransport(base / _expanded(url))
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as exc:
        raise SettingsError(f"repository {url!r}: {exc}") from exc
    if parts.scheme in {"http", "https"} and parts.hostname:
        from release.repository.transports.http import HttpTransport  # noqa: PLC0415

        return HttpTransport(url, timeout_s=settings.connect_timeout_s)
    if parts.scheme == "ssh" and parts.hostname and parts.path.strip("/") and not parts.password:
        from release.repository.transports.ssh import SshTransport  # noqa: PLC0415

        return SshTransport(parts, known_hosts=settings.known_hosts, timeout_s=settings.connect_timeout_s)
    raise SettingsError(
        f"repository {url!r}: takes a folder, ssh://[user@]host[:port]/path (no password in it), "
        "or http(s)://host/path to read"
    )


def _expanded(path: str) -> Path:
    from pathlib import Path  # noqa: PLC0415

    if not path.strip():
        raise SettingsError("repository: takes a folder or a URL, not an empty text")
    return Path(path).expanduser()
