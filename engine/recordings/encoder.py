"""From exchanges to the entries of a recording, as they may lie in a file."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from engine.recordings.cleaning import clean_body, clean_head
from engine.recordings.gor import SEPARATOR, ends_once

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.recordings.cleaning import CleanHead
    from engine.recordings.tap import Answer, Exchange

_KNOWN_MAX: Final = 1024
_KNOWN_MAX_BYTES: Final = 1024
_OWN_FIELDS: Final = frozenset({"content-length", "content-type", "date", "server", "set-cookie"})


class Encoder:
    """Encodes the exchanges of one worker. Belongs to one thread at a time.

    Args:
        prefix: of the ids of its requests, 12 hexadecimal digits that no other worker has.

    Attributes:
        recorded: exchanges that were encoded.
        unwritable: those that hold the separator of the format, and are left out.
        fields_left_out: fields of heads that are not recorded.
    """

    def __init__(self, prefix: str) -> None:
        self.recorded = 0
        self.unwritable = 0
        self.fields_left_out = 0
        self._prefix = prefix.encode()
        self._heads: dict[bytes, CleanHead] = {}
        self._answers: dict[tuple[int, str], bytes] = {}

    def encode(self, exchanges: Iterable[Exchange]) -> bytes:
        """Return two entries for each exchange: the request, and its response."""
        parts: list[bytes] = []
        heads, prefix = self._heads, self._prefix
        for exchange in exchanges:
            text, body, at_ns = exchange.head, exchange.body, exchange.began_ns
            head = heads.get(text) or self._clean(text)
            if b"callback" in body or b"\\u" in body:
                body = clean_body(body)
            text = head.with_length(len(body)) if len(body) != head.body_bytes else head.text
            answer, latency_ns, number = exchange.answer, exchange.latency_ns, exchange.number
            request = b"1 %b%012x %d 0\n%b%b%b" % (prefix, number, at_ns, text, body, SEPARATOR)
            response = b"2 %b%012x %d %d\n%b%b" % (
                prefix, number, at_ns + latency_ns, latency_ns, self._response(answer), SEPARATOR
            )  # fmt: skip
            if not (ends_once(request) and ends_once(response)):
                self.unwritable += 1
                continue
            parts += (request, response)
            self.fields_left_out += head.left_out
            self.recorded += 1
        return b"".join(parts)

    def _clean(self, text: bytes) -> CleanHead:
        head = clean_head(text)
        if len(text) <= _KNOWN_MAX_BYTES:
            if len(self._heads) >= _KNOWN_MAX:
                self._heads.clear()
            self._heads[text] = head
        return head

    def _response(self, answer: Answer) -> bytes:
        kind = (answer.status, answer.content_type)
        head = self._answers.get(kind)
        if head is None:
            phrase = HTTPStatus(answer.status).phrase
            text = f"HTTP/1.1 {answer.status} {phrase}\r\nContent-Type: {answer.content_type}\r\n"
            head = self._answers[kind] = text.encode()
        if answer.headers:
            fields = "".join(
                f"{name}: {value}\r\n"
                for name, value in answer.headers.items()
                if name.lower() not in _OWN_FIELDS
            )
            head += fields.encode("utf-8", "replace")
        return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(answer.body), answer.body)
