"""How a running recording comes from an engine: frames, each a line of JSON and the entries it announces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from engine.errors import RecordingError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Frame(msgspec.Struct, omit_defaults=True):
    """What one worker says; its counts are those since the stream began."""

    worker: str  #: slot and generation, such as ``0.3``
    bytes: int = 0  #: of entries, behind the line
    recorded: int = 0  #: requests that were recorded with their answers
    dropped: int = 0  #: those for which there was no room, because the stream is not read fast enough
    unwritable: int = 0  #: those that hold the separator of the format
    fields_left_out: int = 0  #: fields of requests that are not recorded
    trouble: str = ""  #: why something of this worker is missing
    ended: str = ""  #: why the stream ends: it is the last frame


_decode = msgspec.json.Decoder(Frame).decode


def encode(frame: Frame, entries: bytes = b"") -> bytes:
    """Return the bytes of a frame."""
    frame.bytes = len(entries)
    return b"%b\n%b" % (msgspec.json.encode(frame), entries)


def decode(line: bytes) -> Frame:
    """Return what the line of a frame says.

    Raises:
        RecordingError: it is none.
    """
    try:
        return _decode(line)
    except msgspec.DecodeError as exc:
        raise RecordingError(f"{line[:60]!r} begins no frame of a recording: {exc}") from exc


class Stream(Protocol):
    """Bytes that come."""

    def readline(self) -> bytes:
        """Return the next line; empty at the end."""

    def read(self, size: int) -> bytes:
        """Return the next *size* bytes, less at the end."""


def frames_of(stream: Stream) -> Iterator[tuple[Frame, bytes]]:
    """Yield frames with their entries, until the stream ends; a frame that it ends within is left out.

    Raises:
        RecordingError: it is no such stream.
    """
    while line := stream.readline():
        if not line.endswith(b"\n"):
            return
        frame = decode(line)
        entries = stream.read(frame.bytes) if frame.bytes else b""
        if len(entries) < frame.bytes:
            return
        yield frame, entries
