"""Answers from bytes: every framing, cut everywhere, and the shortcuts against the careful way."""

from __future__ import annotations

import itertools
import random

import pytest

from engine.errors import WireError
from engine.nodes.answer import Answer
from engine.nodes.wire import HEAD_MAX_BYTES, AnswerReader

# Each response and what it must be read as; None: an interim answer, which is no answer of its own.
RESPONSES: dict[str, tuple[bytes, Answer | None]] = {
    "empty": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Answer(200, 0, True)),
    "empty with date": (
        b"HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Length: 0\r\nVia: 1.1 x\r\n\r\n",
        Answer(200, 0, True),
    ),
    "purged": (b"HTTP/1.1 200 Purged\r\nContent-Length: 5\r\n\r\nhello", Answer(200, 5, True)),
    "keep-alive": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
        Answer(200, 0, True),
    ),
    "not found": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", Answer(404, 0, True)),
    "not found with page": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nabc", Answer(404, 3, True)),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", Answer(200, 0, True)),
    "lower case": (b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody", Answer(200, 4, True)),
    "lower case empty": (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Answer(200, 0, True)),
    "upper case": (b"HTTP/1.1 200 OK\r\nCONTENT-LENGTH: 4\r\n\r\nbody", Answer(200, 4, True)),
    "no space": (b"HTTP/1.1 200 OK\r\nContent-Length:4\r\n\r\nbody", Answer(200, 4, True)),
    "spaces": (b"HTTP/1.1 200 OK\r\nContent-Length: \t 4 \r\n\r\nbody", Answer(200, 4, True)),
    "equal lengths": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX: y\r\ncontent-length: 4\r\n\r\nbody",
        Answer(200, 4, True),
    ),
    "length twice, empty": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: y\r\nContent-Length: 0\r\n\r\n",
        Answer(200, 0, True),
    ),
    "length list": (b"HTTP/1.1 200 OK\r\nContent-Length: 4, 4\r\n\r\nbody", Answer(200, 4, True)),
    "ends of heads in the body": (
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\n"
            b"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n\r\n"
        ),
        Answer(200, 44, True),
    ),
    "status in a header": (
        b"HTTP/1.1 200 OK\r\nVia: HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        Answer(200, 0, True),
    ),
    "length in a header": (
        b"HTTP/1.1 200 OK\r\nX-Note: Content-Length: 0\r\nX-Content-Length: 9\r\nContent-Length: 2\r\n\r\nab",
        Answer(200, 2, True),
    ),
    "coding in a header": (
        b"HTTP/1.1 200 OK\r\nX-Note: Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
        Answer(200, 0, True),
    ),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n",
        Answer(200, 15, True),
    ),
    "chunked in capitals": (
        b"HTTP/1.1 200 OK\r\nTRANSFER-ENCODING: Chunked\r\n\r\n3\r\n\r\n\r\r\n0\r\n\r\n",
        Answer(200, 3, True),
    ),
    "chunked with extensions and trailers": (
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
            b'003 ;a="b";c\r\nabc\r\n0;x\r\nContent-Length: 7\r\nX: y\r\n\r\n'
        ),
        Answer(200, 3, True),
    ),
    "chunked empty": (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        Answer(200, 0, True),
    ),
    "chunked and a length": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        Answer(200, 2, True),
    ),
    "length and chunked": (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nContent-Length: 100\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        Answer(200, 2, True),
    ),
    "continue": (b"HTTP/1.1 100 Continue\r\n\r\n", None),
    "early hints": (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 9\r\n\r\n", None),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", Answer(204, 0, True)),
    "no content with length": (b"HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", Answer(204, 0, True)),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 512\r\n\r\n", Answer(304, 0, True)),
    "not modified, chunked": (
        b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
        Answer(304, 0, True),
    ),
    "old and kept": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx",
        Answer(200, 1, True),
    ),
    "odd status": (b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", Answer(999, 0, True)),
    "close": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", Answer(200, 0, False)),
    "lower case close": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nconnection: close\r\n\r\n",
        Answer(200, 0, False),
    ),
    "upper case close": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nCONNECTION:CLOSE\r\n\r\n",
        Answer(200, 0, False),
    ),
    "close among others": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x, Close\r\n\r\nab",
        Answer(200, 2, False),
    ),
    "keep-alive, then close": (
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\nX: y\r\n"
            b"Connection: close\r\n\r\n"
        ),
        Answer(200, 0, False),
    ),
    "close, then keep-alive": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\nConnection: keep-alive\r\n\r\nx",
        Answer(200, 1, False),
    ),
    "old": (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", Answer(200, 1, False)),
}
ENDING: dict[str, tuple[bytes, Answer]] = {
    "to the end": (b"HTTP/1.1 200 OK\r\n\r\nsome\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Answer(200, 27, False)),
    "to the end, empty": (b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n", Answer(200, 0, False)),
    "a coding that is not chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        Answer(200, 15, False),
    ),
    "a name with a space": (b"HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\nx", Answer(200, 1, False)),
}
BROKEN: dict[str, bytes] = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "other version": b"HTTP/2 200\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "short status": b"HTTP/1.1 20 OK\r\n\r\n",
    "long status": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "status from zero": b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
    "line end first": b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "unequal lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX: y\r\ncontent-length: 2\r\n\r\nab",
    "unequal lengths, zero": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 2\r\n\r\nab",
    "unequal list": b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nab",
    "signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\na",
    "hexadecimal length": b"HTTP/1.1 200 OK\r\nContent-Length: 0x1\r\n\r\na",
    "empty length": b"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\na",
    "endless length": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 40 + b"\r\n\r\na",
    "switching": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "no chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
    "bad chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "signed chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
    "0x chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\n",
    "endless chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 17 + b"\r\n",
    "long chunk line": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 5000 + b"\r\n",
    "long head": b"HTTP/1.1 200 OK\r\nX: " + b"y" * HEAD_MAX_BYTES + b"\r\n\r\n",
}
BYTEWISE_MAX = 6000
RUN_OF = [name for name, (_, answer) in RESPONSES.items() if answer is not None and answer.keep_alive]


def read(pieces: list[bytes], *, is_eof: bool = False) -> tuple[list[Answer], str]:
    """Feed pieces as a connection does: what is left over stands again at the start of the next."""
    reader = AnswerReader()
    answers: list[Answer] = []
    buffer = bytearray()
    try:
        for piece in pieces:
            buffer += piece
            end = len(buffer)
            used = reader.feed(buffer + b"HTTP/1.1 200 stale\r\n\r\n", end, answers)  # behind: an old content
            assert 0 <= used <= end
            del buffer[:used]
        if is_eof:
            reader.feed_eof(answers)
    except WireError as exc:
        return answers, str(exc) or "error"
    return answers, ""


def bytewise(data: bytes, *, is_eof: bool = False) -> tuple[list[Answer], str]:
    """Read byte by byte; the middle of what is very long comes in larger pieces."""
    size = len(data)
    cuts = [
        cut for cut in range(size + 1) if cut < BYTEWISE_MAX or cut > size - BYTEWISE_MAX or cut % 97 == 0
    ]
    return read([data[start:end] for start, end in itertools.pairwise(cuts)], is_eof=is_eof)


def pieces_of(data: bytes, rng: random.Random) -> list[bytes]:
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice([0, 1, 2, 3, 8, 30])))
    return [data[start:end] for start, end in itertools.pairwise([0, *cuts, len(data)])]


@pytest.mark.parametrize("name", RESPONSES)
def test_each_framing_is_read_whole_bytewise_and_cut_at_every_place(name: str) -> None:
    data, answer = RESPONSES[name]
    expected = ([] if answer is None else [answer], "")
    assert read([data]) == expected
    assert bytewise(data) == expected
    for cut in range(len(data) + 1):
        assert read([data[:cut], data[cut:]]) == expected, cut


@pytest.mark.parametrize("name", ENDING)
def test_a_body_without_length_ends_with_the_connection(name: str) -> None:
    data, answer = ENDING[name]
    assert read([data]) == ([], "")
    for cut in range(len(data) + 1):
        assert read([data[:cut], data[cut:]], is_eof=True) == ([answer], ""), cut
    assert bytewise(data, is_eof=True) == ([answer], "")


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("before", [0, 1, 3])
def test_what_is_no_answer_is_an_error_after_the_answers_before_it(name: str, before: int) -> None:
    first, answer = RESPONSES["empty"]
    data = first * before + BROKEN[name]
    for answers, error in (read([data]), bytewise(data), read([first * before, BROKEN[name]])):
        assert answers == [answer] * before
        assert error


@pytest.mark.parametrize("name", [name for name, (_, answer) in RESPONSES.items() if answer is not None])
def test_a_connection_that_ends_in_an_answer_is_an_error_and_between_answers_is_not(name: str) -> None:
    data, answer = RESPONSES[name]
    assert read([data], is_eof=True) == ([answer], "")
    head = data.index(b"\r\n\r\n") + 4
    for cut in range(head, len(data)):
        answers, error = read([data[:cut]], is_eof=True)
        assert answers == []
        assert "closed in the middle" in error


@pytest.mark.parametrize("name", RUN_OF)
@pytest.mark.parametrize("count", [2, 3, 17])
def test_a_run_of_equal_answers_is_that_many_answers_cut_anywhere(name: str, count: int) -> None:
    data, answer = RESPONSES[name]
    data *= count
    assert read([data]) == ([answer] * count, "")
    for cut in range(0, len(data) + 1, 1 if count < 17 else 7):
        assert read([data[:cut], data[cut:]]) == ([answer] * count, ""), cut


@pytest.mark.parametrize("one", RESPONSES)
def test_between_any_two_neighbours_of_a_run_nothing_is_lost(one: str) -> None:
    """Runs with a stranger in them, which the shortcut must not take for one of its own."""
    for other in RESPONSES:
        names = [one, one, other, one, other, other]
        data = b"".join(RESPONSES[name][0] for name in names)
        expected = [answer for name in names if (answer := RESPONSES[name][1]) is not None]
        assert read([data]) == (expected, ""), other


@pytest.mark.parametrize("extra", [b"\r\n", b"\r\n\r\n", b"\n", b" ", b"x", b"HTTP/1.1 200 OK\r\n"])
def test_bytes_between_the_answers_of_a_run_are_seen(extra: bytes) -> None:
    first, _ = RESPONSES["empty"]
    for data in (first + extra + first, first + first + extra + first * 2, first * 3 + extra):
        whole, one_by_one = read([data]), bytewise(data)
        assert whole[0] == one_by_one[0]
        assert bool(whole[1]) == bool(one_by_one[1])


def test_a_head_without_length_between_two_lengths_is_not_counted_into_the_run() -> None:
    """As many lengths as heads, but one head has two and the other none: that body has no end."""
    twice, _ = RESPONSES["length twice, empty"]
    none = b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n"
    for data in (twice + none, none + twice, twice + none + b"rest", twice * 2 + none * 2):
        assert read([data], is_eof=True) == bytewise(data, is_eof=True)
        assert read([data], is_eof=True)[0][-1].keep_alive is False


@pytest.mark.parametrize("seed", range(30))
def test_sequences_of_anything_in_random_pieces_read_as_byte_by_byte(seed: int) -> None:
    rng = random.Random(seed)
    good = list(RESPONSES.values())
    for _ in range(20):
        parts: list[bytes] = []
        expected: list[Answer] = []
        for _ in range(rng.randrange(1, 8)):
            data, answer = rng.choice(good)
            count = rng.choice([1, 1, 1, 2, 5, 40])
            parts.append(data * count)
            expected += [answer] * count if answer is not None else []
        is_broken = rng.random() < 0.2
        if is_broken:
            parts.append(rng.choice(list(BROKEN.values())))
        elif rng.random() < 0.3:
            data, answer = rng.choice(list(ENDING.values()))
            parts.append(data)
            expected.append(answer)
        whole = b"".join(parts)
        for pieces in ([whole], pieces_of(whole, rng), pieces_of(whole, rng)):
            answers, error = read(pieces, is_eof=True)
            assert answers == expected, f"seed {seed}"
            assert bool(error) == is_broken, f"seed {seed}"


@pytest.mark.parametrize("seed", range(30))
def test_damaged_sequences_read_the_same_however_they_are_cut(seed: int) -> None:
    """The shortcuts and the careful way agree on nonsense, too."""
    rng = random.Random(1000 + seed)
    lines = [
        b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 404 No\r\n", b"HTTP/1.0 200 OK\r\n", b"Content-Length: 0\r\n",
        b"Content-Length: 0\r\n", b"content-length: 0\r\n", b"Content-Length: 3\r\n", b"\r\n", b"\r\n",
        b"Connection: keep-alive\r\n", b"connection: close\r\n", b"Transfer-Encoding: chunked\r\n", b"abc",
        b"X: y\r\n", b"0\r\n\r\n",
    ]  # fmt: skip
    for _ in range(150):
        data = RESPONSES["empty"][0] * rng.choice([0, 1, 3])
        data += b"".join(rng.choices(lines, k=rng.randrange(2, 14))) + RESPONSES["empty"][0] * rng.choice(
            [0, 2]
        )
        if rng.random() < 0.5:
            place = rng.randrange(len(data) or 1)
            data = data[:place] + data[place + rng.choice([0, 1, 2]) :]
        expected = bytewise(data, is_eof=True)
        for pieces in ([data], pieces_of(data, rng)):
            answers, error = read(pieces, is_eof=True)
            assert answers == expected[0], f"seed {seed}: {data!r}"
            assert bool(error) == bool(expected[1]), f"seed {seed}: {data!r}"


def test_a_body_is_counted_while_it_comes() -> None:
    reader = AnswerReader()
    answers: list[Answer] = []
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    data = bytearray(head + b"x" * 100)
    assert reader.feed(data, len(data), answers) == len(data)
    assert reader.body_bytes == 100
    assert answers == []
    piece = bytearray(999_900)
    assert reader.feed(piece, len(piece), answers) == len(piece)
    assert answers == [Answer(200, 1_000_000, True)]
    assert reader.body_bytes == 0


def test_a_head_may_be_as_long_as_allowed_and_no_longer() -> None:
    start, end = b"HTTP/1.1 204 OK\r\nX: ", b"\r\n\r\n"
    fits = start + b"y" * (HEAD_MAX_BYTES + 1 - len(start + end)) + end
    for data, error in ((fits, False), (fits.replace(b"yy", b"yyy", 1), True)):
        assert bool(read([data])[1]) == error
        assert bool(read([data[:-1], data[-1:]])[1]) == error
