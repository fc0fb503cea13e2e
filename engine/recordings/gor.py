"""GoReplay's file format: a line about each message, the message as it was on the wire, and a separator.

``TYPE ID NANOSECONDS [LATENCY]``, then the HTTP message. Files that end in ``.gz`` are compressed; a
recording of several chunks is named ``name_0.gor``, ``name_1.gor`` and so on. A message that holds the
separator itself cannot be written: whoever reads would see two.
"""

from __future__ import annotations

import gzip
import re
import zlib
from typing import TYPE_CHECKING, BinaryIO, Final, cast

import msgspec

from engine.errors import RecordingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REQUEST: Final = 1
RESPONSE: Final = 2
REPLAYED: Final = 3  #: what a replay before was answered
SEPARATOR: Final = "\n🐵🙈🙉\n".encode()
ENTRY_MAX_BYTES: Final = 64 * 1024 * 1024

_READ_BYTES: Final = 1024 * 1024
_LINE: Final = re.compile(rb"([123]) ([0-9A-Za-z_-]{1,64}) ([0-9]{1,19})(?: (-?[0-9]{1,19}))?")
_LINE_MAX_BYTES: Final = 256
_CHUNK: Final = re.compile(r"(.*)_([0-9]+)(\.gor(?:\.gz)?|\.gz)?")


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One message."""

    kind: int  #: `REQUEST`, `RESPONSE` or `REPLAYED`
    id: str  #: a request and its response have the same
    at_ns: int  #: when it began, UNIX nanoseconds
    message: bytes  #: HTTP, head and body
    latency_ns: int = 0  #: of a response: since its request


def encode(entry: Entry) -> bytes:
    """Return the bytes of an entry.

    Raises:
        RecordingError: the message holds the separator.
    """
    head = f"{entry.kind} {entry.id} {entry.at_ns} {entry.latency_ns}\n".encode()
    text = head + entry.message + SEPARATOR
    if not ends_once(text):
        raise RecordingError(f"message {entry.id} holds the format's own separator and cannot be recorded")
    return text


def ends_once(entry: bytes) -> bool:
    """Tell whether a reader finds the end of *entry* where it is: at its first separator."""
    return entry.find(SEPARATOR) == len(entry) - len(SEPARATOR)


def read(path: Path) -> Iterator[Entry]:
    """Yield the entries of a recording, of all its chunks in their order.

    Args:
        path: of the file; of a recording in chunks, its name without their numbers, or its first chunk.

    Raises:
        RecordingError: it cannot be read; or is no recording from some byte on, which the text names. All
            entries before that have been yielded.
    """
    for file in chunks_of(path):
        yield from _read_file(file)


def chunks_of(path: Path) -> list[Path]:
    """Return the files of a recording.

    Raises:
        RecordingError: there are none.
    """
    if path.is_file():
        chunk = _CHUNK.fullmatch(path.name)
        if chunk is None or chunk[2] != "0":
            return [path]
        name, ending = chunk[1], chunk[3] or ""
    else:
        ending = next((end for end in (".gor.gz", ".gor", ".gz") if path.name.endswith(end)), "")
        name = path.name.removesuffix(ending)
    found = []
    for file in path.parent.glob("*") if path.parent.is_dir() else ():
        chunk = _CHUNK.fullmatch(file.name)
        if chunk is not None and chunk[1] == name and (chunk[3] or "") == ending:
            found.append((int(chunk[2]), file))
    if not found:
        raise RecordingError(f"{path}: no such file, and no chunks {name}_0{ending} and so on")
    return [file for _, file in sorted(found)]


def _read_file(path: Path) -> Iterator[Entry]:
    try:
        with _open(path) as stream:
            yield from _entries(stream, path)
    except (OSError, EOFError, zlib.error) as exc:
        raise RecordingError(f"{path}: cannot be read: {exc}") from exc


def _open(path: Path) -> BinaryIO:
    return cast("BinaryIO", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _entries(stream: BinaryIO, path: Path) -> Iterator[Entry]:
    data = b""
    offset = 0  # of what *data* begins with
    searched = 0  # bytes of *data* in which no separator begins
    while True:
        end = data.find(SEPARATOR, searched)
        if end >= 0:
            yield _entry(data[:end], path, offset)
            offset += end + len(SEPARATOR)
            data, searched = data[end + len(SEPARATOR) :], 0
            continue
        if len(data) > ENTRY_MAX_BYTES:
            raise RecordingError(
                f"{path}: byte {offset}: a message of more than {ENTRY_MAX_BYTES} bytes, or no recording"
            )
        searched = max(0, len(data) - len(SEPARATOR))
        more = stream.read(_READ_BYTES)
        if not more:
            break
        data += more
    if data.strip():
        raise RecordingError(f"{path}: byte {offset}: the file ends in the middle of a message")


def _entry(data: bytes, path: Path, offset: int) -> Entry:
    line, _, message = data.partition(b"\n")
    match = _LINE.fullmatch(line.rstrip(b"\r")) if len(line) <= _LINE_MAX_BYTES else None
    if match is None:
        raise RecordingError(
            f"{path}: byte {offset}: {line[:60]!r} does not begin a message, which takes TYPE ID NANOSECONDS"
        )
    return Entry(int(match[1]), match[2].decode(), int(match[3]), message, int(match[4] or 0))
