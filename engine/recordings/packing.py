"""From exchanges to the frames of a stream, without what lets somebody in.

The engine does as little as it can: a frame has columns of numbers, then the bodies. Heads of requests and of
answers, of which there are few, are numbered, and told with the first frame that names them. Who writes the
file makes its entries of that; see `engine.recordings.encoder`.
"""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING, Final

from loguru import logger

from engine.base.phrases import phrase_of
from engine.recordings.cleaning import clean_body, clean_head
from engine.recordings.frames import Frame, NamedAnswer, NamedHead
from engine.recordings.tap import Batch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.recordings.tap import Answer

KNOWN_MAX: Final = 1024  #: heads that have a number; then they are numbered anew
_KNOWN_MAX_BYTES: Final = 1024  #: a longer head is told with each of its requests
_OWN_FIELDS: Final = frozenset({"content-length", "content-type", "date", "server", "set-cookie"})


class Packer:
    """Packs the exchanges of one worker for one stream. Belongs to one thread at a time.

    Args:
        worker: its name in frames.

    Attributes:
        unwritable: exchanges that could not be packed, and are left out.
    """

    def __init__(self, worker: str) -> None:
        self.unwritable = 0
        self._worker = worker
        self._heads: dict[bytes, int] = {}
        self._answers: dict[object, int] = {}
        self._numbered = 0
        self._forgotten = 0  # up to this number

    def pack(self, batch: Batch) -> tuple[Frame, bytes]:
        """Return a frame, and what is behind its line, of what can be packed."""
        is_new = self._numbered - self._forgotten >= KNOWN_MAX
        try:
            return self._pack(batch, is_new=is_new)
        except Exception as exc:  # noqa: BLE001 - whatever one exchange holds, the others are recorded
            logger.opt(exception=exc).error("an exchange cannot be recorded")
        # What the frame that failed was to tell is not known yet: heads are numbered anew.
        return self._pack(self._packable(batch), is_new=True)

    def _packable(self, batch: Batch) -> Batch:
        """Return the exchanges of a batch that can be packed, and count the others."""
        good = Batch()
        for one in batch.singles():
            try:
                Packer(self._worker)._pack(one, is_new=False)  # noqa: SLF001 - one of its own kind
            except Exception:  # noqa: BLE001 - as above
                self.unwritable += 1
            else:
                good.flat += one.flat
        return good

    def _pack(self, batch: Batch, *, is_new: bool) -> tuple[Frame, bytes]:
        frame = Frame(self._worker, exchanges=len(batch))
        if is_new:
            self._heads.clear()
            self._answers.clear()
            self._forgotten = self._numbered
            frame.forgets = True
        heads = self._heads
        numbers = [heads.get(text) or self._name_head(text, frame) for text in batch.heads]
        answers = batch.answers
        known, kind_of = self._answers, self._kind_of
        kinds = [
            kind_of(said, frame)
            if said.headers
            else known.get((said.status, said.content_type)) or kind_of(said, frame)
            for said in answers
        ]
        bodies = batch.bodies
        asked = b"".join(bodies)
        if b"callback" in asked or b"\\u" in asked:
            bodies = [clean_body(one) if b"callback" in one or b"\\u" in one else one for one in bodies]
            asked = b"".join(bodies)
        said_bodies = [said.body for said in answers]
        parts = [
            _column("q", batch.began_ns),
            _column("q", batch.latencies_ns),
            _column("I", numbers),
            _column("I", map(len, bodies)),
            _column("I", kinds),
            _column("I", map(len, said_bodies)),
            asked,
            *said_bodies,
        ]
        return frame, b"".join(parts)

    def _name_head(self, text: bytes, frame: Frame) -> int:
        self._numbered += 1
        clean = clean_head(text)
        frame.heads.append(NamedHead(self._numbered, clean.text, clean.body_bytes, clean.left_out))
        if len(text) <= _KNOWN_MAX_BYTES:
            self._heads[text] = self._numbered
        return self._numbered

    def _kind_of(self, said: Answer, frame: Frame) -> int:
        fields = [pair for pair in said.headers.items() if pair[0].lower() not in _OWN_FIELDS]
        key = (said.status, said.content_type, *fields)
        number = self._answers.get(key)
        if number is None:
            self._numbered = number = self._numbered + 1
            lines = [f"HTTP/1.1 {said.status} {phrase_of(said.status)}"]
            lines += (f"{name}: {value}" for name, value in (("Content-Type", said.content_type), *fields))
            text = "\r\n".join([*lines, ""]).encode("utf-8", "replace")
            frame.answers.append(NamedAnswer(number, text))
            self._answers[key] = number
        return number


def _column(code: str, numbers: Iterable[int]) -> bytes:
    column = array(code, numbers)
    if sys.byteorder == "big":
        column.byteswap()
    return column.tobytes()
