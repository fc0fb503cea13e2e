"""How a running recording comes from an engine: frames, each a line of JSON and the bytes it announces.

Behind the line of a frame with n exchanges are six columns of n numbers, little-endian: when each request
was there, and how long its answer took (64 bits, nanoseconds); then, of 32 bits, the number of its head, the
length of its body, the number of its answer's head, and the length of the answer's body. The bodies of the
requests follow, then those of the answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from engine.errors import RecordingError

if TYPE_CHECKING:
    from collections.abc import Iterator


class NamedHead(msgspec.Struct, array_like=True, gc=False):
    """The head of requests, as it may be recorded, and its number."""

    number: int
    text: bytes
    body_bytes: int  #: as it says; -1: it does not
    left_out: int  #: fields


class NamedAnswer(msgspec.Struct, array_like=True, gc=False):
    """The head of answers, but for its length and its end, and its number."""

    number: int
    text: bytes


class Frame(msgspec.Struct, omit_defaults=True):
    """What one worker says."""

    worker: str  #: slot and generation, such as ``0.3``
    bytes: int = 0  #: behind the line
    exchanges: int = 0  #: in them
    heads: list[NamedHead] = []  #: that were not named before
    answers: list[NamedAnswer] = []  #: likewise
    forgets: bool = False  #: those named before are not meant again
    dropped: int = 0  #: exchanges since the stream began that had no room: it is not read fast enough
    unwritable: int = 0  #: exchanges since the stream began that could not be packed
    trouble: str = ""  #: why something of this worker is missing
    ended: str = ""  #: why the stream ends: it is the last frame


_decode = msgspec.json.Decoder(Frame).decode


def encode(frame: Frame, packed: bytes = b"") -> bytes:
    """Return the bytes of a frame."""
    frame.bytes = len(packed)
    return b"%b\n%b" % (msgspec.json.encode(frame), packed)


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
    """Yield frames with what is behind their lines, until the stream ends, without one that it ends within.

    Raises:
        RecordingError: it is no such stream.
    """
    while line := stream.readline():
        if not line.endswith(b"\n"):
            return
        frame = decode(line)
        packed = stream.read(frame.bytes) if frame.bytes else b""
        if len(packed) < frame.bytes:
            return
        yield frame, packed
