"""Which answers bear the own mark, which bring their text along, and which are one and the same."""

from __future__ import annotations

import itertools

import pytest

from engine.nodes.answer import SAMPLE_BYTES, Answer, Sign
from engine.nodes.wire import AnswerReader

OWN = Sign(b"\r\nPurgeline-Cache: varnish edge-1\r\n", b"\r\nX-Varnish: ", b"XID: ")
MARK = b"Purgeline-Cache: varnish edge-1"
OTHER = b"Purgeline-Cache: varnish parent-1"


def empty(*lines: bytes, status: bytes = b"200 OK") -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + status, *lines, b"Content-Length: 0", b"", b""])


def page(number: int, *lines: bytes, xid: int | None = None, body: bytes = b"<p>XID: %d</p>") -> bytes:
    text = body % (number if xid is None else xid)
    head = [b"HTTP/1.1 200 Purged", *lines, b"X-Varnish: %d" % number, b"Content-Length: %d" % len(text)]
    return b"\r\n".join([*head, b"", text])


def read(*reads: bytes, sign: Sign | None = OWN) -> list[Answer]:
    reader = AnswerReader(sign)
    answers: list[Answer] = []
    rest = b""
    for data in reads:
        rest += data
        del_to = reader.feed(bytearray(rest), len(rest), answers)
        rest = rest[del_to:]
    assert not rest
    return answers


@pytest.mark.parametrize("sign", [OWN, None])
@pytest.mark.parametrize("lines", [(MARK,), ()])
@pytest.mark.parametrize("counts", [b"00000", b"11111", b"01001", b"0", b"1"])
def test_what_had_nothing_to_drop_is_told(sign: Sign | None, lines: tuple[bytes, ...], counts: bytes) -> None:
    """In runs, alone, in pieces and with bodies; 10 and 01 are not 0."""
    had = [number == b"0"[0] for number in counts]
    for end in (b"", b"X: y"):
        heads = [empty(*lines, b"Purgeline-Count: %c" % number, *filter(None, [end])) for number in counts]
        data = b"".join(heads)
        for reads in ([data], [data[place : place + 1] for place in range(len(data))]):
            assert [answer.had_nothing for answer in read(*reads, sign=sign)] == had
    pages = b"".join(page(7, *lines, b"Purgeline-Count: %c" % number) for number in counts)
    assert [answer.had_nothing for answer in read(pages, sign=sign)] == had
    others = b"".join(empty(*lines, b"Purgeline-Count: " + count) for count in (b"10", b"01", b"0 0"))
    assert not any(answer.had_nothing for answer in read(others, sign=sign))


@pytest.mark.parametrize("sign", [OWN, None])
@pytest.mark.parametrize("lines", [(MARK,), ()])
def test_the_words_of_a_400_are_kept_whatever_it_bears(sign: Sign | None, lines: tuple[bytes, ...]) -> None:
    """In runs, in repeats and in pieces; the answer after it has none."""
    alone = empty(*lines, status=b"400 Bad ban")
    with_body = b"\r\n".join([b"HTTP/1.1 400 No", *lines, b"Content-Length: 3", b"", b"why"])
    for bad in (alone, with_body):
        data = empty(MARK) + bad * 4 + empty(MARK)
        for reads in ([data], [data[place : place + 1] for place in range(len(data))]):
            answers = read(*reads, sign=sign)
            assert [answer.status for answer in answers] == [200, *[400] * 4, 200]
            assert [answer.said for answer in answers] == [b"", *[bad] * 4, b""]
            is_own = sign is None or bool(lines)
            assert {answer.text for answer in answers} == ({b""} if is_own else {b"", bad})


def test_without_a_sign_no_text_is_kept() -> None:
    assert {answer.text for answer in read(empty() * 5 + page(7) + empty(OTHER), sign=None)} == {b""}


@pytest.mark.parametrize("count", [1, 2, 40])
def test_what_bears_the_own_mark_needs_no_text(count: int) -> None:
    answers = read(*[b"".join(empty(MARK, b"Date: %d" % second) for second in range(count))] * 3)
    assert answers == [Answer(200, 0, keep_alive=True)] * 3 * count


@pytest.mark.parametrize(
    "strange",
    [
        empty(),
        empty(OTHER),
        empty(MARK + b"0"),
        empty(OTHER, MARK),
        empty(MARK, OTHER.lower()),
        empty(MARK, MARK),
        empty(b"X: " + MARK),
    ],
)
def test_the_one_among_many_that_another_server_gave_is_told(strange: bytes) -> None:
    others = [empty(MARK, b"X: %d" % number) for number in range(9)]
    run = b"".join([*others[:4], strange, *others[4:]])
    assert len(read(run)) == 10
    assert read(run)[4].text == strange
    texts = [answer.text for answer in read(b"".join(others), run)]
    assert texts[13] == strange
    own = [text for place, text in enumerate(texts) if place != 13]
    assert set(own) <= {b"", *others}


def test_two_marks_in_one_head_do_not_stand_for_one_that_has_none() -> None:
    run = empty(MARK) + empty(MARK, MARK) + empty() + empty(MARK)
    assert [bool(answer.text) for answer in read(run)] == [False, True, True, True]


def test_equal_answers_without_a_mark_are_one_answer() -> None:
    run = empty(b"Date: 1") * 20 + empty(b"Date: 2") * 20
    answers = read(run)
    assert len({id(answer) for answer in answers}) == 2
    assert [answer.text for answer in answers] == [empty(b"Date: 1")] * 20 + [empty(b"Date: 2")] * 20


def test_answers_that_differ_in_their_number_only_are_one_answer() -> None:
    answers = read(b"".join(page(number) for number in range(95, 105)))
    assert [answer.text for answer in answers] == [page(95)] * 5 + [page(100)] * 5
    assert [answer.body_bytes for answer in answers] == [len(b"<p>XID: 95</p>")] * 5 + [15] * 5


@pytest.mark.parametrize(
    "strange",
    [
        page(14, xid=13),
        page(14, b"Via: 1.1 varnish"),
        page(14).replace(b"X-Varnish: 14", b"X-Varnish: 14 3"),
        page(14).replace(b"X-Varnish: 14", b"X-Varnish: 1a"),
    ],
)
def test_a_number_that_differs_otherwise_is_an_answer_of_its_own(strange: bytes) -> None:
    answers = read(page(12) + page(13) + strange + page(15))
    assert [answer.text for answer in answers] == [page(12), page(12), strange, page(15)]


@pytest.mark.parametrize("sign", [OWN, None])
def test_what_is_read_at_once_is_read_as_one_by_one(sign: Sign | None) -> None:
    """Whichever of many repeats is another one, and wherever it stands."""
    changes = (
        lambda _: page(8),
        lambda text: text.replace(b"Varnish: 1", b"Varnish: 2"),
        lambda text: text.replace(b"XID: 1", b"XID: 2"),
        lambda text: text.replace(b"Varnish: 1", b"Varnish: x"),
        lambda text: text.replace(b"Purged", b"Pruned"),
        lambda text: text.replace(b"</p>", b"<p/>"),
        lambda _: empty(MARK),
    )
    for change, place in itertools.product(changes, range(8)):
        pages = [page(number, MARK) for number in range(1000, 1008)]
        pages[place] = change(pages[place])
        assert read(page(999, MARK), b"".join(pages), sign=sign) == read(page(999, MARK), *pages, sign=sign)


def test_a_number_in_the_length_does_not_change_the_framing() -> None:
    body = b"x" * 12
    first = b"HTTP/1.1 200 OK\r\nX-Varnish: 12\r\nContent-Length: 12\r\n\r\n" + body
    second = b"HTTP/1.1 200 OK\r\nX-Varnish: 13\r\nContent-Length: 13\r\n\r\n" + body + b"y"
    assert [answer.body_bytes for answer in read(first + second)] == [12, 13]


def test_a_long_body_is_kept_in_part() -> None:
    text = b"HTTP/1.1 404 Not Found\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000
    assert [(len(answer.text), answer.body_bytes) for answer in read(text[:5000], text[5000:])] == [
        (len(text) - 100_000 + SAMPLE_BYTES, 100_000)
    ]


def test_a_body_without_a_length_is_kept_as_far_as_it_is_there() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"5\r\nhello\r\n0\r\n\r\n"
    assert [answer.text for answer in read(head + chunks)] == [head + chunks]
    assert [answer.text for answer in read(head, chunks)] == [head]


def test_wherever_reads_are_cut_the_answers_are_the_same() -> None:
    text = page(98) + page(99, MARK) + empty(b"Date: 1") + page(100) + page(101) + empty(MARK, b"X: y")
    whole = read(text)
    assert [bool(answer.text) for answer in whole] == [True, False, True, True, True, False]
    for cut in range(1, len(text)):
        answers = read(text[:cut], text[cut:])
        assert [answer[:3] for answer in answers] == [answer[:3] for answer in whole]
        assert [bool(answer.text) for answer in answers] == [bool(answer.text) for answer in whole]
