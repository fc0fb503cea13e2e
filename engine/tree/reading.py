"""Answers of a child as they are read: one that cannot be, or tells what cannot be, is none. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from engine.tree.link import LinkError
from engine.tree.words import Answer, decode_line

if TYPE_CHECKING:
    from engine.tree.words import Line, Report

_decode: Final = msgspec.json.Decoder(Answer).decode


def answer_of(body: bytes, url: str) -> Answer:
    """Return what a child answered a question.

    Args:
        body: of the answer.
        url: of the child.

    Raises:
        LinkError: it cannot be read.
    """
    try:
        answer = _decode(body)
        for report in answer.tasks:
            _check_bits(report)
    except (msgspec.DecodeError, ValueError) as exc:
        raise LinkError(f"{url} answers what cannot be read: {exc}", is_sick=True) from None
    return answer


def lines_of(body: bytes, count: int, url: str) -> list[Line]:
    """Return what a child answered to each of *count* tasks.

    Raises:
        LinkError: as of `answer_of`, or they are not as many.
    """
    lines = body.splitlines()
    if len(lines) != count:
        raise LinkError(f"{url} answered {len(lines)} of {count} tasks", is_sick=True)
    try:
        return [decode_line(line) for line in lines]
    except msgspec.DecodeError as exc:
        raise LinkError(f"{url} answers what cannot be read: {exc}", is_sick=True) from None


def _check_bits(report: Report) -> None:
    for bits in (report.done, report.lost):
        if bits and not 0 <= int(bits, 16) < 1 << max(0, report.targets):
            raise ValueError(f"bits of more than the {report.targets} targets of task {report.id}")
