"""Recording: what is kept of a request, what is dropped, in which order and in which files it lies."""

import gzip
import io
import re
from pathlib import Path
from typing import Any

import pytest

from engine.cli import values
from engine.errors import RecordingError, RequestError
from engine.intake.replies import Reply
from engine.recordings.cleaning import KEPT, clean_body, clean_head
from engine.recordings.encoder import Encoder
from engine.recordings.file import RecordingFile
from engine.recordings.frames import Frame, encode, frames_of
from engine.recordings.gor import REQUEST, RESPONSE, SEPARATOR, Entry, read
from engine.recordings.gor import encode as entry_of
from engine.recordings.ordering import HELD_S, Ordering
from engine.recordings.tap import Exchange, Recording, Tap

OK = Reply(202, b'{"task_id":"t"}')
BODY = b'{"targets":["http://a.example.com/"]}'


def head(*fields: bytes, line: bytes = b"POST /v1/engine/task HTTP/1.1") -> bytes:
    return b"\r\n".join([line, b"Host: a", *fields, b"Content-Length: %d" % len(BODY), b"", b""])


def exchange(number: int = 1, text: bytes | None = None, body: bytes = BODY, said: Reply = OK) -> Exchange:
    made = Exchange(Tap(), number, head() if text is None else text, body, lambda _: None)
    made(said)
    made.began_ns, made.latency_ns = 1000 * number, 5
    return made


def test_fields_that_nobody_has_listed_are_left_out_whatever_their_name() -> None:
    secrets = (b"Authorization: Bearer s3cret", b"cookie: s3cret", b"X-My-Door: s3cret", b"User-Agent: c/1")
    clean = clean_head(head(*secrets))
    assert b"s3cret" not in clean.text
    assert clean.text.endswith(b"\r\n\r\n")
    assert (clean.left_out, clean.body_bytes) == (3, len(BODY))
    assert b"User-Agent: c/1\r\n" in clean.text
    assert {"authorization", "cookie", "proxy-authorization", "x-forwarded-for"}.isdisjoint(KEPT)


@pytest.mark.parametrize(
    "line",
    [
        b"GET /v1/engine/nodes?access_token=s3cret HTTP/1.1",
        b"GET /v1/engine/nodes?a=1&ACCESS_TOKEN=s3cret&b=2 HTTP/1.1",
        b"GET http://u:s3cret@engine/v1/engine/nodes HTTP/1.1",
    ],
)
def test_a_request_line_names_no_token_and_no_user(line: bytes) -> None:
    assert b"s3cret" not in clean_head(head(line=line)).text
    assert b"/v1/engine/nodes" in clean_head(head(line=line)).text


@pytest.mark.parametrize(
    "body",
    [
        b'{"callback":"https://u:s3cret@a/told?k=s3cret#s3cret","targets":["http://a/?k=1"]}',
        b'{"targets":["http://a/?k=1"]}\n{"c\\u0061llback":"https://a/told?k=s3cret"}\n',
        b'{"callback" : "https://u:s3cret@a/told?k=s3cret", cut off',
        b'{"callback":"https://a/told?k=s3cret","x":' + b"[" * 100_000,
    ],
)
def test_a_callback_loses_what_lets_its_owner_in(body: bytes) -> None:
    clean = clean_body(body)
    assert b"s3cret" not in clean
    assert b"https://a/told" in clean
    assert clean.count(b"\n") == body.count(b"\n")
    assert (b"http://a/?k=1" in clean) == (b"http://a/?k=1" in body)


def test_a_recorded_exchange_is_two_entries_with_one_id(tmp_path: Path) -> None:
    encoder = Encoder("00000000beef")
    file = tmp_path / "t.gor"
    refused = Reply(503, b"{}", "application/problem+json", {"Retry-After": "2", "Set-Cookie": "s3cret"})
    chunked = head(b"Transfer-Encoding: chunked").replace(b"Content-Length: %d\r\n" % len(BODY), b"")
    file.write_bytes(encoder.encode([exchange(), exchange(2, chunked, said=refused)]))
    first, answer, second, refusal = read(file)
    assert (first.kind, answer.kind, first.id) == (REQUEST, RESPONSE, answer.id)
    assert re.fullmatch("[0-9a-f]{24}", first.id)
    assert (first.at_ns, answer.at_ns, answer.latency_ns) == (1000, 1005, 5)
    assert first.message == head() + BODY
    assert second.message.endswith(b"\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
    assert answer.message.startswith(b"HTTP/1.1 202 Accepted\r\n")
    assert b"Retry-After: 2" in refusal.message
    assert b"s3cret" not in refusal.message
    assert (encoder.recorded, encoder.fields_left_out) == (2, 1)


@pytest.mark.parametrize("body", [b"a" + SEPARATOR + b"b", SEPARATOR[1:] + b"b", b"a" + SEPARATOR[:-1]])
def test_a_message_that_a_reader_would_cut_is_left_out_and_counted(tmp_path: Path, body: bytes) -> None:
    encoder = Encoder("00000000beef")
    (tmp_path / "t.gor").write_bytes(encoder.encode([exchange(1, body=body), exchange(2)]))
    assert (encoder.recorded, encoder.unwritable) == (1, 1)
    assert len(list(read(tmp_path / "t.gor"))) == 2


def test_an_end_that_makes_a_separator_with_the_one_behind_it_is_not_written() -> None:
    with pytest.raises(RecordingError, match="separator"):
        entry_of(Entry(REQUEST, "a", 1, b"x" + SEPARATOR[:-1]))


def test_what_there_is_no_room_for_is_dropped_until_there_is() -> None:
    recording = Recording(waiting_max=2)
    for number in range(5):
        recording.add(exchange(number))
    assert recording.dropped == 3
    recording.written(batch := recording.take())
    assert [each.number for each in batch] == [0, 1]
    recording.add(exchange(7))
    assert recording.dropped == 3


def test_bytes_count_until_they_are_written_not_until_they_are_taken() -> None:
    recording = Recording(waiting_max_bytes=3_000_000)
    large = exchange(1, body=bytes(1_200_000))
    for _ in range(3):
        recording.add(large)
    batch = recording.take()
    recording.add(large)
    assert (len(batch), recording.dropped) == (1, 2), "about a MiB at a time"
    recording.written(batch)
    recording.add(large)
    assert recording.dropped == 2


def test_a_sample_is_that_share_of_all_requests() -> None:
    recording = Recording(0.1)
    assert 900 < sum(map(recording.wants, range(1, 10_001))) < 1100
    assert all(map(Recording().wants, range(1, 10_001)))


def test_a_tap_shows_an_exchange_once_it_is_answered_and_nothing_after_the_end() -> None:
    tap, recording = Tap(), Recording()
    answered: list[Any] = []
    tap.begin(recording)
    tap.watch(head(), BODY, answered.append)(OK)
    [seen] = recording.take()
    assert (answered, seen.answer, seen.body) == ([OK], OK, BODY)
    late = tap.watch(head(), BODY, answered.append)
    tap.end(recording)
    late(OK)
    assert (len(answered), recording.take(), tap.recordings) == (2, [], ())


def test_a_third_recording_is_refused() -> None:
    tap = Tap()
    for _ in range(2):
        tap.begin(Recording())
    with pytest.raises(RequestError, match="already") as refused:
        tap.begin(Recording())
    assert refused.value.status == 409


def test_a_frame_that_a_stream_ends_within_is_left_out() -> None:
    text = encode(Frame("0.1", recorded=1), b"12345") + encode(Frame("1.2"), b"678")
    assert [entries for _, entries in frames_of(io.BytesIO(text))] == [b"12345", b"678"]
    for cut in range(1, len(text)):
        assert [entries for _, entries in frames_of(io.BytesIO(text[:-cut]))] in ([b"12345"], [])
    with pytest.raises(RecordingError, match="no frame"):
        list(frames_of(io.BytesIO(b"<html>\n")))


def test_entries_of_several_workers_come_in_the_order_of_their_times() -> None:
    ordering = Ordering()
    texts = [entry_of(Entry(REQUEST, f"a{at}", at, b"GET / HTTP/1.1\r\n\r\n")) for at in (30, 10, 20)]
    ordering.add(texts[0] + texts[1], 0)
    ordering.add(texts[2], 0.5)
    assert ordering.take(0.9) == []
    assert ordering.take(HELD_S) == [texts[1]]
    assert ordering.take_all() == [texts[2], texts[0]]


@pytest.mark.parametrize("name", ["t.gor", "t.gor.gz"])
def test_a_file_is_private_and_its_chunks_are_read_as_one(tmp_path: Path, name: str) -> None:
    entries = [entry_of(Entry(REQUEST, f"n{at}", at, bytes([65 + at % 26]) * 700)) for at in range(40)]
    file = RecordingFile(tmp_path / name, chunk_bytes=1000)
    for at in range(0, 40, 4):
        file.write(entries[at : at + 4])
    file.close()
    assert len(file.files) > 1
    assert [each.id for each in read(tmp_path / name)] == [f"n{at}" for at in range(40)]
    assert (file.requests, file.written_bytes) == (40, sum(each.stat().st_size for each in file.files))
    assert {each.stat().st_mode & 0o777 for each in file.files} == {0o600}
    for each in file.files:
        text = gzip.decompress(each.read_bytes()) if name.endswith("z") else each.read_bytes()
        assert text.endswith(SEPARATOR)
    with pytest.raises(RecordingError, match="is there already"):
        RecordingFile(tmp_path / name, chunk_bytes=1000)


def test_a_file_ends_at_its_limit(tmp_path: Path) -> None:
    entries = [entry_of(Entry(REQUEST, f"n{at}", at, b"x" * 700)) for at in range(40)]
    file = RecordingFile(tmp_path / "t.gor", max_bytes=5000)
    file.write(entries)
    file.write(entries)
    file.close()
    assert file.is_full
    assert 5000 <= file.written_bytes < 6000


@pytest.mark.parametrize(("text", "count"), [("500", 500), ("2K", 2048), ("3M", 3 << 20), ("1G", 1 << 30)])
def test_sizes_have_units(text: str, count: int) -> None:
    assert values.size(text) == count


@pytest.mark.parametrize(
    ("read_it", "text"),
    [
        (values.size, "0"),
        (values.size, "1.5G"),
        (values.share, "10"),
        (values.share, "0%"),
        (values.share, "101%"),
    ],
)
def test_what_is_no_size_or_share_is_refused(read_it: Any, text: str) -> None:
    with pytest.raises(Exception, match="takes"):
        read_it(text)
