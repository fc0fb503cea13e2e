"""NDJSON: the lines of a request, and the one reply to all of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from engine.intake.problems import Problem
from engine.intake.replies import Reply

if TYPE_CHECKING:
    from collections.abc import Callable


_BLANK: Final = re.compile(rb"\s*")
_ERRORS: Final = 400  #: the first status of an error
_decode = msgspec.json.Decoder(Problem).decode
_encode = msgspec.json.encode


def split_lines(body: bytes, most: int) -> list[tuple[int, bytes]]:
    """Return the lines that are not blank, at most *most* and one more, each with its number from 1.

    Blank bytes are passed over together, 1 ns each: a body may have nothing else.
    """
    lines: list[tuple[int, bytes]] = []
    number, counted = 1, 0
    at = _end_of_blank(body, 0)
    while at < len(body) and len(lines) <= most:
        number += body.count(b"\n", counted, at)
        counted = at
        end = body.find(b"\n", at)
        if end < 0:
            end = len(body)
        lines.append((number, body[at:end]))
        at = _end_of_blank(body, end)
    return lines


def _end_of_blank(body: bytes, at: int) -> int:
    match = _BLANK.match(body, at)
    assert match is not None
    return match.end()


class LinesReply:
    """Collects the replies of one NDJSON request, in the order of its lines.

    Args:
        numbers: of its lines, as the client counts them.
        answer: called with one reply for all, when every line has its own.
    """

    def __init__(self, numbers: list[int], answer: Callable[[Reply], None]) -> None:
        self._numbers = numbers
        self._replies: list[bytes] = []
        self._missing = len(numbers)
        self._answer = answer
        self._has_hint = False

    def next(self) -> Callable[[Reply], None]:
        """Return what takes the reply of the next line."""
        place = len(self._replies)
        self._replies.append(b"")

        def put(reply: Reply) -> None:
            failed = reply.status >= _ERRORS
            self._replies[place] = self._located(reply.body, place) if failed else reply.body
            self._missing -= 1
            if not self._missing:
                self._answer(Reply(200, b"\n".join(self._replies) + b"\n", "application/x-ndjson"))

        return put

    def _located(self, body: bytes, place: int) -> bytes:
        """Return a problem document that says which line it is about."""
        try:
            problem = _decode(body)
        except msgspec.DecodeError:  # of another worker, which may be of another version
            return body
        problem.line = self._numbers[place]
        problem.detail = f"line {problem.line}: {problem.detail}"
        return _encode(problem)

    def may_hint(self, error: Exception) -> bool:
        """Tell whether the reply of an error may have its hint; the first one that has one may."""
        hint = getattr(error, "hint", None)
        if hint is None or self._has_hint:
            return False
        self._has_hint = True
        return True
