"""What every way to a repository offers.

A repository is one flat folder: ``index.json``, the artefacts, and while somebody publishes ``publish.lock``
and ``.tmp-*`` files. A transport moves files and knows nothing of what they mean. Its errors are
`RepositoryError`, with the place and the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        """Give a staged file its name only where no file has it; tell whether that was done."""

    def remove(self, name: str) -> None:
        """Remove the file *name*; it may be gone already."""

    def close(self) -> None:
        """Close the connection, if any. The next call opens it again."""
