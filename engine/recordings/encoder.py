"""From the frames of a worker to the entries of a recording."""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING

from engine.errors import RecordingError
from engine.recordings.cleaning import CleanHead
from engine.recordings.gor import SEPARATOR, ends_once

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.recordings.frames import Frame


class Encoder:
    """Encodes what one worker sends on one connection.

    Args:
        prefix: of the ids of its requests, 12 hexadecimal digits that no other worker has.

    Attributes:
        unwritable: exchanges that hold the separator of the format, and are left out.
        fields_left_out: fields of heads that are not recorded.
    """

    def __init__(self, prefix: str) -> None:
        self.unwritable = 0
        self.fields_left_out = 0
        self._prefix = prefix.encode()
        self._count = 0
        self._heads: dict[int, CleanHead] = {}
        self._answers: dict[int, bytes] = {}

    def encode(self, frame: Frame, packed: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the two entries of each exchange, with their times, UNIX nanoseconds.

        Raises:
            RecordingError: *packed* is not what *frame* announces.
        """
        if frame.forgets:
            self._heads.clear()
            self._answers.clear()
        for head in frame.heads:
            self._heads[head.number] = CleanHead(head.text, head.body_bytes, head.left_out)
        for answer in frame.answers:
            self._answers[answer.number] = answer.text
        try:
            yield from self._entries(frame.exchanges, packed)
        except (KeyError, ValueError) as exc:
            raise RecordingError(f"a frame of worker {frame.worker} is damaged: {exc!r}") from exc

    def _entries(self, count: int, packed: bytes) -> Iterator[tuple[int, bytes]]:
        columns = []
        at = 0
        for code in "qqIIII":
            column = array(code)
            end = at + count * column.itemsize
            column.frombytes(packed[at:end])
            if sys.byteorder == "big":
                column.byteswap()
            columns.append(column)
            at = end
        asked_at = at
        said_at = at + sum(columns[3])
        for began_ns, latency_ns, head_number, asked, kind, said in zip(*columns, strict=True):
            self._count += 1
            name = b"%b%012x" % (self._prefix, self._count)
            head, body = self._heads[head_number], packed[asked_at : asked_at + asked]
            text = head.with_length(asked) if asked != head.body_bytes else head.text
            request = b"1 %b %d 0\n%b%b%b" % (name, began_ns, text, body, SEPARATOR)
            response = b"2 %b %d %d\n%bContent-Length: %d\r\n\r\n%b%b" % (
                name, began_ns + latency_ns, latency_ns, self._answers[kind], said,
                packed[said_at : said_at + said], SEPARATOR,
            )  # fmt: skip
            asked_at += asked
            said_at += said
            if ends_once(request) and ends_once(response):
                self.fields_left_out += head.left_out
                yield began_ns, request
                yield began_ns + latency_ns, response
            else:
                self.unwritable += 1
        if said_at != len(packed):
            raise ValueError(f"it has {len(packed)} bytes of {said_at}")
