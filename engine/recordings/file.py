"""The files of a recording as they are written: whole entries only, whatever goes wrong.

Compressed files are gzip members in a row, one for each block, which every reader of gzip takes for one file.
So a block that the disk has no room for is cut off, and what is before it can be read.
"""

from __future__ import annotations

import gzip
import os
from typing import TYPE_CHECKING, Final

from engine.errors import RecordingError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_BLOCK_BYTES: Final = 256 * 1024  #: not compressed
_ENDINGS: Final = (".gor.gz", ".gor", ".gz")
_LEVEL: Final = 6


class RecordingFile:
    """Writes entries to one file, or to chunks, mode 0600.

    Args:
        path: of the file; of a recording in chunks, without their numbers. ``.gz`` is compressed.
        chunk_bytes: a file of so many bytes is the last but one; 0: there is one file.
        max_bytes: of all files; 0: any.

    Attributes:
        files: that were begun, in their order.
        written_bytes: of all of them.
        requests: in them.

    Raises:
        RecordingError: it is there already, or cannot be written.
    """

    def __init__(self, path: Path, *, chunk_bytes: int = 0, max_bytes: int = 0) -> None:
        self.files: list[Path] = []
        self.written_bytes = 0
        self.requests = 0
        self._path = path
        self._chunk_bytes = chunk_bytes
        self._max_bytes = max_bytes
        self._is_compressed = path.suffix == ".gz"
        self._fd = -1
        self._offset = 0
        self._next()

    @property
    def is_full(self) -> bool:
        """Whether it has its `max_bytes`."""
        return bool(self._max_bytes) and self.written_bytes >= self._max_bytes

    def write(self, entries: Iterable[bytes]) -> None:
        """Write whole entries, as many as there is room for.

        Raises:
            RecordingError: the disk is full or fails; what was written before can be read.
        """
        block: list[bytes] = []
        size = 0
        for entry in entries:
            block.append(entry)
            size += len(entry)
            if size >= self._block_bytes():
                self._write_block(block)
                block, size = [], 0
                if self.is_full:
                    return
        self._write_block(block)

    def close(self) -> None:
        """Close the file. Safe to call again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _block_bytes(self) -> int:
        limits = [_BLOCK_BYTES]
        limits += [self._chunk_bytes - self._offset] if self._chunk_bytes else []
        limits += [self._max_bytes - self.written_bytes] if self._max_bytes else []
        return min(limits)

    def _write_block(self, block: list[bytes]) -> None:
        if not block or self.is_full:
            return
        if self._chunk_bytes and self._offset >= self._chunk_bytes:
            self._next()
        data = b"".join(block)
        if self._is_compressed:
            data = gzip.compress(data, _LEVEL)
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError as exc:
            self._cut(block, len(data) - len(left))
            raise RecordingError(f"{self.files[-1]}: {exc.strerror}; it ends with what was whole") from exc
        self._note(block, len(data))

    def _cut(self, block: list[bytes], written_bytes: int) -> None:
        """Leave the whole entries of a block that was not written to its end; compressed, none of them."""
        whole = []
        size = 0
        for entry in () if self._is_compressed else block:
            if size + len(entry) > written_bytes:
                break
            whole.append(entry)
            size += len(entry)
        self._note(whole, size)
        os.ftruncate(self._fd, self._offset)

    def _note(self, block: list[bytes], size: int) -> None:
        self._offset += size
        self.written_bytes += size
        self.requests += sum(entry.startswith(b"1 ") for entry in block)

    def _next(self) -> None:
        """Begin the next file."""
        self.close()
        path = self._path
        if self._chunk_bytes:
            ending = next((end for end in _ENDINGS if path.name.endswith(end)), "")
            path = path.with_name(f"{path.name.removesuffix(ending)}_{len(self.files)}{ending}")
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise RecordingError(f"{path} is there already; name another file, or move it away") from None
        except OSError as exc:
            raise RecordingError(f"{path}: {exc.strerror}") from exc
        self._offset = 0
        self.files.append(path)
