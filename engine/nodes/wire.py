"""HTTP/1.x responses from the bytes of a pipelined connection. Pure: no sockets, no clock.

Only what a purge needs is read: the status, how many bytes of body came, whether the connection goes on,
and whether the answer bears the node's own mark. Bodies are counted and dropped where they lie.

Five ways, each for what the one before does not take:

- a *repeat* of the answer before it on this connection, byte by byte and with its body: one comparison;
- a *numbered* repeat, equal but for the number of the request, as Varnish sends them: one more join, a fifth
  of what a look at the head costs;
- a *run* of answers with the same status line and no body, which is what a cache sends to a pipeline
  of purges: counting a few patterns over the whole run costs ≈ 0.8 µs an answer in a run of 32;
- the common head (one ``Content-Length`` written that way, no ``Transfer-Encoding``): a handful of
  ``find`` calls, ≈ 5 µs;
- any other head: a regular expression.

Evidence costs nothing where answers are alike, because equal answers are one `Answer`: a run is counted for
the mark as it is counted for lengths, and an answer without the mark brings its own text along
(`Answer.text`), which is judged once by the node, however often it is repeated.

Source: RFC 9112, sections 2.2, 4, 6.3 (which body belongs to a response) and 7.1 (chunked).
"""

from __future__ import annotations

import re
from typing import Final

from engine.errors import WireError
from engine.nodes.answer import MARK_NAME, NOTHING, SAMPLE_BYTES, Answer, Sign
from engine.nodes.runs import STATUS_LINE, read_run

HEAD_MAX_BYTES: Final = 32 * 1024
_HEAD_TOO_LONG: Final = f"the head of an answer is longer than {HEAD_MAX_BYTES} bytes"
_CHUNK_LINE_MAX_BYTES: Final = 4096

_FIELD = re.compile(rb"\r\n(content-length|transfer-encoding|connection):[ \t]*([^\r\n]*)", re.IGNORECASE)
_REPEAT_MAX_BYTES: Final = 4096
_LENGTH_DIGITS_MAX: Final = 18
_NO_BODY = frozenset({204, 304})
_INFORMATIONAL: Final = 200
_UNREADABLE: Final = 400
_WAITED_HEAD_BYTES: Final = 8192  #: of a longer head the body is not waited for


# What the reader is in the middle of.
_HEAD, _LENGTH, _CHUNK_HEAD, _CHUNK_BODY, _TRAILER, _TO_END = range(6)


class AnswerReader:
    """Turns the bytes of one connection into `Answer`s, in order.

    Args:
        sign: by which answers show that the node gave them; None: nobody asks.
    """

    __slots__ = (
        *(
            "_again_after",
            "_answer",
            "_body_bytes",
            "_digits",
            "_had_nothing",
            "_keep_alive",
            "_left",
            "_number_at",
            "_pieces",
        ),
        *("_said", "_sample", "_sign", "_state", "_status", "_text"),
    )

    def __init__(self, sign: Sign | None = None) -> None:
        self._sign = sign
        self._state = _HEAD
        self._status = 0
        self._left = 0  # bytes of the body, or of the chunk, still to come
        self._body_bytes = 0
        self._keep_alive = True
        self._sample = b""  # `Answer.text` of the answer that is being read
        self._had_nothing = False
        self._said = b""  # `Answer.said`, where that answer is a 400
        self._text = b""  # of the answer that may be repeated
        self._answer: Answer | None = None
        self._digits = 0  # of the number in that text; 0: it has none
        self._number_at = 0
        self._again_after = 0  # from the number to where the body has it, too; 0: it has not
        self._pieces: list[bytes] = []  # that text without its number

    @property
    def body_bytes(self) -> int:
        """Bytes of the body of the answer that is being read, so far."""
        return self._body_bytes

    @property
    def expects(self) -> int:
        """What comes next: -1 a head, 0 a line, -2 what a close ends; else so many bytes of a body."""
        return -1 if self._state == _HEAD else -2 if self._state == _TO_END else self._left

    def feed(self, buffer: bytearray, end: int, answers: list[Answer]) -> int:
        """Read *buffer* up to *end* and append what is complete to *answers*.

        An answer that is not as the one before nearly always has a new ``Date``: it is read, and those behind
        it are as it is. Where they are not either, answers of several kinds take turns: see `read_run`.

        Returns:
            How many bytes were used; the rest must be there again, at the start, in the next call.

        Raises:
            WireError: the bytes are not HTTP/1.x, or a head is longer than `HEAD_MAX_BYTES`.
        """
        pos = 0
        may_run = True
        has_looked = False  # at an answer by itself
        while pos < end:
            if self._state == _HEAD:
                if self._answer is not None:
                    pos = self._feed_repeats(self._answer, buffer, pos, end, answers)
                    if pos >= end:
                        break
                if has_looked and may_run:
                    may_run = False
                    run_end, last = read_run(buffer, pos, end, self._sign, answers)
                    if run_end:
                        self._may_repeat(last, answers[-1])
                        pos = run_end
                        continue
                has_looked = True
                head_end = buffer.find(b"\r\n\r\n", pos, end)
                if head_end < 0:
                    self._check_partial(buffer, pos, end)
                    return pos
                if head_end + 3 - pos > HEAD_MAX_BYTES:  # as `_check_partial`, one byte before its end
                    raise WireError(_HEAD_TOO_LONG)
                self._read_head(buffer, pos, head_end)
                start, pos = pos, head_end + 4
                is_looked_at = self._sign is not None or self._status == _UNREADABLE
                if is_looked_at and not self._look_closer(buffer, start, pos, end):
                    self._state = _HEAD
                    return start
                if self._state == _LENGTH and self._left <= end - pos:
                    pos += self._left  # the whole body is here: nothing to remember
                    answer = self._finish(self._body_bytes + self._left)
                    answers.append(answer)
                    if pos - start <= _REPEAT_MAX_BYTES and answer.keep_alive:
                        self._may_repeat(bytes(buffer[start:pos]), answer)
                continue
            used = self._read_body(buffer, pos, end, answers)
            if used < 0:
                return pos
            pos += used
        return pos

    def _feed_repeats(
        self, answer: Answer, buffer: bytearray, pos: int, end: int, answers: list[Answer]
    ) -> int:
        """Take what repeats *answer*, the one before, off the start; return where that ends."""
        text = self._text
        length, digits = len(text), self._digits
        count = (end - pos) // length
        if count > 1 and digits <= _LENGTH_DIGITS_MAX:
            run_end = pos + count * length
            if self._are_repeats(buffer[pos:run_end], count):
                answers += [answer] * count
                pos = run_end
        if not digits:
            while buffer.startswith(text, pos, end):
                answers.append(answer)
                pos += length
            return pos
        at, pieces = self._number_at, self._pieces
        number = buffer[pos + at : pos + at + digits]
        while number.isdigit() and buffer.startswith(number.join(pieces), pos, end):
            answers.append(answer)
            pos += length
            number = buffer[pos + at : pos + at + digits]
        return pos

    def _are_repeats(self, run: bytearray, count: int) -> bool:
        """Tell whether *run* is so many times the text that is repeated, but for its number.

        The number is looked at a digit of all answers at a time, and written over by that of the text; the
        rest is one comparison.
        """
        text = self._text
        length = len(text)
        for at in range(self._number_at, self._number_at + self._digits):
            column = run[at::length]
            if not column.isdigit():
                return False
            run[at::length] = text[at : at + 1] * count
            if self._again_after:
                again = at + self._again_after
                if run[again::length] != column:
                    return False
                run[again::length] = text[again : again + 1] * count
        return run == text * count

    def _look_closer(self, buffer: bytearray, start: int, body: int, end: int) -> bool:
        """Find out whether an answer, whose head has been read, bears the own mark; if not, keep its text.

        The text of a 400 is kept in any case.

        Returns:
            False: what is wanted of its body is not there yet.
        """
        if self._state == _HEAD:
            return True  # it was an interim one, and the status is that of the answer before
        sign = self._sign
        is_marked = sign is None
        if sign is not None and buffer.find(sign.mark, start, body) > 0:
            is_marked = bytes(memoryview(buffer)[start:body]).lower().count(MARK_NAME) == 1
        if is_marked and self._status != _UNREADABLE:
            self._sample = b""
            return True
        until = body + SAMPLE_BYTES
        if self._state == _LENGTH:
            until = min(until, body + self._left)
            if until > end and body - start <= _WAITED_HEAD_BYTES:
                return False
        self._said = bytes(memoryview(buffer)[start : min(until, end)])
        self._sample = b"" if is_marked else self._said
        return True

    def _may_repeat(self, text: bytes, answer: Answer) -> None:
        """Keep an answer: the next ones may be the same, but for the number that the sign names."""
        self._text, self._answer = text, answer
        self._digits = 0
        sign = self._sign
        if sign is None or not sign.number:
            return
        at = text.find(sign.number) + len(sign.number)
        stop = text.find(b"\r", at)
        number = text[at:stop]
        if at < len(sign.number) or not number.isdigit():
            return
        self._digits, self._number_at = len(number), at
        again = text.find(sign.again + number, stop) + len(sign.again)
        if again < len(sign.again):
            self._pieces = [text[:at], text[stop:]]
            self._again_after = 0
        else:
            self._again_after = again - at
            self._pieces = [text[:at], text[stop:again], text[again + len(number) :]]

    def feed_eof(self, answers: list[Answer]) -> None:
        """The peer closed: that ends a body without a length, and cuts any other short.

        Raises:
            WireError: it closed in the middle of an answer.
        """
        if self._state == _TO_END:
            answers.append(self._finish(self._body_bytes))
        elif self._state != _HEAD:
            raise WireError("the connection was closed in the middle of an answer")

    def _finish(self, body_bytes: int) -> Answer:
        said = self._said if self._status == _UNREADABLE else b""
        answer = Answer(self._status, body_bytes, self._keep_alive, self._sample, said, self._had_nothing)
        self._state = _HEAD
        self._body_bytes = 0
        self._left = 0
        return answer

    def _check_partial(self, buffer: bytearray, pos: int, end: int) -> None:
        start = bytes(buffer[pos : min(end, pos + 7)])
        if not b"HTTP/1.".startswith(start):
            raise WireError(f"not an HTTP/1.x answer: {bytes(buffer[pos : min(end, pos + 40)])!r}")
        if end - pos > HEAD_MAX_BYTES:
            raise WireError(_HEAD_TOO_LONG)

    def _read_head(self, buffer: bytearray, pos: int, head_end: int) -> None:
        line = STATUS_LINE.match(buffer, pos, head_end + 2)
        if line is None:
            raise WireError(f"not an HTTP/1.x answer: {bytes(buffer[pos : min(head_end, pos + 40)])!r}")
        status = int(line[2])
        head = bytes(memoryview(buffer)[pos : head_end + 2]).lower()
        self._had_nothing = head.find(NOTHING) >= 0  # `in`: see `runs`
        length_at = head.find(b"\r\ncontent-length: ")
        connection_at = head.find(b"\r\nconnection:")
        if (
            length_at > 0
            and status >= _INFORMATIONAL
            and status not in _NO_BODY
            and line[1] == b"1"
            and head.find(b"\r\ntransfer-encoding:") < 0
            and head.find(b"\r\ncontent-length:", length_at + 2) < 0
            and (
                connection_at < 0
                or (
                    head.startswith(b" keep-alive\r\n", connection_at + 13)
                    and head.find(b"\r\nconnection:", connection_at + 2) < 0
                )
            )
        ):
            digits = head[length_at + 18 : head.find(b"\r", length_at + 18)]
            if digits.isdigit() and len(digits) < _LENGTH_DIGITS_MAX:
                self._status = status
                self._keep_alive = True
                self._left = int(digits)
                self._state = _LENGTH
                return
        self._read_head_carefully(buffer, pos, head_end, status, is_1_1=line[1] == b"1")

    def _read_head_carefully(
        self, buffer: bytearray, pos: int, head_end: int, status: int, *, is_1_1: bool
    ) -> None:
        lengths: set[bytes] = set()
        codings = b""
        options: set[bytes] = set()
        for name, value in _FIELD.findall(buffer, pos, head_end):
            field = name.lower()
            if field == b"content-length":
                lengths.update(part.strip() for part in value.split(b","))
            elif field == b"transfer-encoding":
                codings += b"," + value.lower()
            else:
                options.update(option.strip() for option in value.lower().split(b","))
        if status < _INFORMATIONAL:
            if status == 101:  # noqa: PLR2004 - HTTP
                raise WireError("101 Switching Protocols was not asked for")
            return  # 100, 103: the answer itself follows
        self._status = status
        self._keep_alive = b"close" not in options and (is_1_1 or b"keep-alive" in options)
        self._body_bytes = 0
        if status in _NO_BODY:
            self._left = 0
            self._state = _LENGTH
        elif codings:
            if codings.rpartition(b",")[2].strip() == b"chunked":
                self._state = _CHUNK_HEAD
            else:
                self._to_end()
        elif not lengths:
            self._to_end()
        elif len(lengths) == 1 and (digits := lengths.pop()).isdigit() and len(digits) < _LENGTH_DIGITS_MAX:
            self._left = int(digits)
            self._state = _LENGTH
        else:
            raise WireError("an answer has no single valid Content-Length")

    def _to_end(self) -> None:
        self._state = _TO_END
        self._keep_alive = False

    def _read_body(self, buffer: bytearray, pos: int, end: int, answers: list[Answer]) -> int:
        """Read on in a body; return the bytes used, or -1 when a line is not complete yet."""
        if self._state == _TO_END:
            self._body_bytes += end - pos
            return end - pos
        if self._state in {_LENGTH, _CHUNK_BODY}:
            used = min(self._left, end - pos)
            self._left -= used
            if self._state == _LENGTH:
                self._body_bytes += used
                if not self._left:
                    answers.append(self._finish(self._body_bytes))
            elif not self._left:
                self._state = _CHUNK_HEAD
            return used
        line_end = buffer.find(b"\r\n", pos, end)
        if (end if line_end < 0 else line_end + 1) - pos > _CHUNK_LINE_MAX_BYTES:
            raise WireError("a line of a chunked body is too long")
        if line_end < 0:
            return -1
        self._read_line(bytes(buffer[pos:line_end]), answers)
        return line_end + 2 - pos

    def _read_line(self, line: bytes, answers: list[Answer]) -> None:
        if self._state == _TRAILER:
            if not line:
                answers.append(self._finish(self._body_bytes))
            return
        size = line.partition(b";")[0].strip()
        try:
            if not size or len(size) > 16 or size.strip(b"0123456789abcdefABCDEF"):  # noqa: PLR2004 - 64 bits
                raise ValueError  # noqa: TRY301 - one place makes the error
            length = int(size, 16)
        except ValueError:
            raise WireError(f"a chunk's size is not a hexadecimal number: {line[:40]!r}") from None
        if length:
            self._body_bytes += length
            self._left = length + 2  # the chunk and its line end
            self._state = _CHUNK_BODY
        else:
            self._state = _TRAILER
