"""Runs of answers without bodies, as caches send them to a pipeline of purges: read by counting. Pure.

Bytes are looked for by ``find``: ``in`` tries at first whether what is sought is a number, and the error of
that takes 2,400 instructions.
"""

from __future__ import annotations

import re
from typing import Final

from engine.nodes.answer import MARK_NAME, NOTHING, Answer, Sign

STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: |\r)")
_RUN_MIN: Final = 2
_STATUS_LINE_MIN: Final = 14  #: ``HTTP/1.1 200 `` and a line end
_NONE: Final = (0, b"")
_EMPTY: Final = b"\r\ncontent-length: 0"
_EACH: Final = frozenset({b"204", b"304", b"400"})  #: without a body by nature, or with words that are kept


def read_run(
    buffer: bytearray, pos: int, end: int, sign: Sign | None, answers: list[Answer]
) -> tuple[int, bytes]:
    """Read a run of answers that begins at *pos*, and append it to *answers*.

    Every head must begin with the same status line and have one ``Content-Length``, which is 0, in whatever
    case it is written; nothing may change the framing. Where each bears the own mark, and no other, that is
    counted in the same way; otherwise the answers bring their texts along, equal ones as one `Answer`.

    Returns:
        Where the run ends, and the text of its last answer; 0 and nothing without a run.
    """
    if not buffer.startswith(b"HTTP/1.", buffer.find(b"\r\n\r\n", pos, end) + 4, end):
        return _NONE  # a body follows, or nothing: not worth a look through all of it
    run_end = buffer.rfind(b"\r\n\r\n", pos, end) + 4
    line_end = buffer.find(b"\r\n", pos, min(run_end, pos + 256)) + 2
    count = buffer.count(b"\r\n\r\n", pos, run_end)
    if count < _RUN_MIN or line_end < pos + _STATUS_LINE_MIN:
        return _NONE
    line = STATUS_LINE.match(buffer, pos, line_end)
    if line is None or line[1] != b"1" or line[2] < b"200" or line[2] in _EACH:
        return _NONE
    run = bytes(memoryview(buffer)[pos:run_end])
    lower = run.lower()
    if (
        lower.count(b"\r\ncontent-length: 0\r\n") != count
        or lower.count(b"\r\ncontent-length:") != count
        or lower.find(b"\r\ntransfer-encoding:") >= 0
        or lower.count(b"\r\nconnection:") != lower.count(b"\r\nconnection: keep-alive\r\n")
    ):
        return _NONE
    start = lower[: line_end - pos]
    heads = lower.split(b"\r\n\r\n")
    last = heads.pop()
    if last or not all(head.startswith(start) and head.find(_EMPTY) >= 0 for head in heads):
        return _NONE
    status = int(line[2])
    if sign is None or _all_marked(sign, run, lower, heads):
        _append_alike(status, lower, heads, answers)
    else:
        _append_texts(status, run, heads, answers)
    return run_end, run[run.rfind(b"\r\n\r\n", 0, -4) + 4 :]


def _all_marked(sign: Sign, run: bytes, lower: bytes, heads: list[bytes]) -> bool:
    count = len(heads)
    return (
        run.count(sign.mark) == count
        and lower.count(MARK_NAME) == count
        and all(head.find(MARK_NAME) >= 0 for head in heads)
    )


def _append_alike(status: int, lower: bytes, heads: list[bytes], answers: list[Answer]) -> None:
    some, none = Answer(status, 0, keep_alive=True), Answer(status, 0, keep_alive=True, had_nothing=True)
    nothings = lower.count(NOTHING)
    if nothings in {0, len(heads)}:
        answers += [none if nothings else some] * len(heads)
    else:
        answers += [none if (head + b"\r\n").find(NOTHING) >= 0 else some for head in heads]


def _append_texts(status: int, run: bytes, lower: list[bytes], answers: list[Answer]) -> None:
    known: dict[bytes, Answer] = {}
    heads = run.split(b"\r\n\r\n")
    heads.pop()
    for head, in_lower in zip(heads, lower, strict=True):
        answer = known.get(head)
        if answer is None:
            had_nothing = (in_lower + b"\r\n").find(NOTHING) >= 0
            text = head + b"\r\n\r\n"
            answer = known[head] = Answer(status, 0, keep_alive=True, text=text, had_nothing=had_nothing)
        answers.append(answer)
