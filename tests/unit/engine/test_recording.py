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
from engine.recordings import packing
from engine.recordings.cleaning import KEPT, clean_body, clean_head
from engine.recordings.encoder import Encoder
from engine.recordings.file import RecordingFile
from engine.recordings.frames import Frame, encode, frames_of
from engine.recordings.gor import REQUEST, RESPONSE, SEPARATOR, Entry, read
from engine.recordings.gor import encode as entry_of
from engine.recordings.messages import response_of
from engine.recordings.ordering import HELD_S, Ordering
from engine.recordings.packing import Packer
from engine.recordings.tap import OVERHEAD_BYTES, Batch, Recording, Tap

OK = Reply(202, b'{"task_id":"t"}')
BODY = b'{"targets":["http://a.example.com/"]}'


def head(*fields: bytes, line: bytes = b"POST /v1/engine/task HTTP/1.1") -> bytes:
    return b"\r\n".join([line, b"Host: a", *fields, b"Content-Length: %d" % len(BODY), b"", b""])


def batch_of(*exchanges: tuple[bytes, bytes, Reply]) -> Batch:
    """Return exchanges of head, body and answer; the first began at 1000 ns, the second at 2000."""
    batch = Batch()
    for number, (text, body, said) in enumerate(exchanges, 1):
        batch.flat += (text, body, 1000 * number, 5, said)
    return batch


def encoded(file: Path, *batches: Batch) -> tuple[list[Entry], Encoder]:
    """Have batches come by one stream; return what is read of the file that is written of it."""
    packer, encoder = Packer("0.1"), Encoder("00000000beef")
    stream = b"".join(encode(*packer.pack(batch)) for batch in batches)
    with file.open("wb") as out:
        for frame, packed in frames_of(io.BytesIO(stream)):
            out.writelines(entry for _, entry in encoder.encode(frame, packed))
    return list(read(file)), encoder


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
        b"GET /v1/engine/nodes?access%5Ftoken=s3cret HTTP/1.1",
        b"GET /v1/engine/nodes?a=1;token=s3cret HTTP/1.1",
        b"GET http://u:s3cret@engine/v1/engine/nodes HTTP/1.1",
        b"GET http://u:s3@s3cret@engine/v1/engine/nodes HTTP/1.1",
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
        b'{\n  "callback":\r\n\t"https://u:s3cret@a/told?k=s3cret",\n  "targets": ["http://a/?k=1"]\n}\n',
        b'{\n  "callb\\u0061ck": "https://u:s3cret@a/told?k=s3cret"\n}',
        b'{\n  "callbac\\u006B": "https:\\/\\/u:s3cret@a\\/told?k=s3cret"\n}',
        b'{"callback":"https://a/told?k=s3cret","callback":"https://a/told"}',
        b'{"callback":"https://a/told?k=\\"s3cret\\\\","targets":["http://a/?k=1"]}',
        b'[{"callback":"https://a/told?k=s3cret"}]',
        b'{"a":"https://a/told","callback":["https://a/?k=s3cret]","s3cret"],"targets":["http://a/?k=1"]}',
        b'{"a":"https://a/told","callback":{"callback":{"url":"s3cret"}},"targets":["http://a/?k=1"]}',
        b'{"a":"https://a/told","callback":"https:u:s3cret@a/","targets":["http://a/?k=1"]}',
        b'{"a":"https://a/told","callback":"\\ud800 s3cret","targets":["http://a/?k=1"]}',
        b'{"a":"https://a/told","callback":\'s3cret\'}\n{"targets":["http://a/?k=1"]}',
        b'{"callback":"https://a/told?s3cret',
    ],
)
def test_a_callback_loses_what_lets_its_owner_in(body: bytes) -> None:
    clean = clean_body(body)
    assert b"s3cret" not in clean
    assert b"https://a/told" in clean
    assert clean.count(b"\n") == body.count(b"\n")
    assert (b"http://a/?k=1" in clean) == (b"http://a/?k=1" in body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"callback": "https://a/told", "targets": ["http://a/?callback=x"]}',
        b'{"callback" : null ,"targets":["\\"callback\\": \\"https://a/?k=1\\""]}',
        b'{"callback":7}\n{"callback":true}',
    ],
)
def test_a_body_without_a_secret_is_recorded_byte_by_byte(body: bytes) -> None:
    assert clean_body(body) == body


def test_a_recorded_exchange_is_two_entries_with_one_id(tmp_path: Path) -> None:
    refused = Reply(503, b"{}", "application/problem+json", {"Retry-After": "2", "Set-Cookie": "s3cret"})
    chunked = head(b"Transfer-Encoding: chunked").replace(b"Content-Length: %d\r\n" % len(BODY), b"")
    batch = batch_of((head(), BODY, OK), (chunked, BODY, refused))
    (first, answer, second, refusal), encoder = encoded(tmp_path / "t.gor", batch)
    assert (first.kind, answer.kind, first.id) == (REQUEST, RESPONSE, answer.id)
    assert re.fullmatch("[0-9a-f]{24}", first.id)
    assert (first.at_ns, answer.at_ns, answer.latency_ns) == (1000, 1005, 5)
    assert first.message == head() + BODY
    assert second.message.endswith(b"\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
    assert answer.message == b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\n" + (
        b"Content-Length: %d\r\n\r\n" % len(OK.body) + OK.body
    )
    assert b"Retry-After: 2" in refusal.message
    assert b"s3cret" not in refusal.message
    assert (encoder.unwritable, encoder.fields_left_out) == (0, 1)


def test_no_secret_is_in_what_leaves_an_engine() -> None:
    told = b'{"callback":"https://u:s3cret@a/told?k=s3cret","targets":["http://a/"]}'
    hidden = b'{"c\\u0061llback":"https://a/told?k=s3cret"}'
    said = Reply(200, b"{}", headers={"Set-Cookie": "s3cret"})
    secret = head(b"Authorization: Bearer s3cret")
    frame, packed = Packer("0.1").pack(batch_of((secret, told, said), (secret, hidden, said)))
    assert b"told" in packed
    named = [one.text for one in frame.heads] + [one.text for one in frame.answers]
    assert b"s3cret" not in packed + b"".join(named)


def test_heads_are_told_once_and_again_when_there_have_been_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "KNOWN_MAX", 3)
    lines = [b"GET /v1/engine/task/%d HTTP/1.1" % number for number in (1, 1, 2, 1, 3, 1, 1)]
    batches = [batch_of((head(line=line), BODY, OK)) for line in lines]
    entries, _ = encoded(tmp_path / "t.gor", *batches)
    assert [one.message.partition(b"\r\n")[0] for one in entries[::2]] == lines
    packer = Packer("0.1")
    frames = [packer.pack(batch)[0] for batch in batches]
    assert [(len(one.heads), len(one.answers), one.forgets) for one in frames] == [
        (1, 1, False),
        (0, 0, False),
        (1, 0, False),
        (1, 1, True),
        (1, 0, False),
        (1, 1, True),
        (0, 0, False),
    ]


def test_a_frame_that_is_not_what_it_announces_is_refused() -> None:
    frame, packed = Packer("0.1").pack(batch_of((head(), BODY, OK)))
    for damaged in (packed[:-1], packed + b"x", packed[:20]):
        with pytest.raises(RecordingError, match=r"worker 0.1 is damaged"):
            list(Encoder("00000000beef").encode(frame, damaged))
    frame.heads.clear()
    with pytest.raises(RecordingError, match=r"worker 0.1 is damaged"):
        list(Encoder("00000000beef").encode(frame, packed))


@pytest.mark.parametrize("body", [b"a" + SEPARATOR + b"b", SEPARATOR[1:] + b"b", b"a" + SEPARATOR[:-1]])
def test_a_message_that_a_reader_would_cut_is_left_out_and_counted(tmp_path: Path, body: bytes) -> None:
    entries, encoder = encoded(tmp_path / "t.gor", batch_of((head(), body, OK), (head(), BODY, OK)))
    assert (len(entries), encoder.unwritable) == (2, 1)


def test_an_answer_of_any_status_is_recorded(tmp_path: Path) -> None:
    """499 is what the engine notes for a client that has gone."""
    (_, answer, *_), encoder = encoded(tmp_path / "t.gor", batch_of((head(), BODY, Reply(499, b"{}"))))
    assert response_of(answer.message).status == 499
    assert encoder.unwritable == 0


def test_an_exchange_that_cannot_be_packed_is_counted_and_the_others_are_recorded(tmp_path: Path) -> None:
    packer, encoder = Packer("0.1"), Encoder("00000000beef")
    broken = batch_of((head(), BODY, OK))
    broken.flat[2] = 1 << 64  # a time that no column holds
    whole = batch_of((head(), BODY, OK))
    broken.flat += whole.flat
    entries: list[tuple[int, bytes]] = []
    for batch in (whole, broken, whole):
        [(frame, packed)] = frames_of(io.BytesIO(encode(*packer.pack(batch))))
        entries += encoder.encode(frame, packed)
    assert (len(entries), packer.unwritable) == (6, 1)


def test_a_length_that_is_no_number_of_bytes_is_told_as_none() -> None:
    assert clean_head(head().replace(b"Length: ", b"Length: " + b"9" * 5000)).body_bytes == -1


def test_an_end_that_makes_a_separator_with_the_one_behind_it_is_not_written() -> None:
    with pytest.raises(RecordingError, match="separator"):
        entry_of(Entry(REQUEST, "a", 1, b"x" + SEPARATOR[:-1]))


def take(recording: Recording, *sizes: int) -> None:
    """Have exchanges with bodies of these sizes come."""
    for size in sizes:
        recording.answered(lambda _: None, b"", bytes(size), 1, OK)


SMALL = OVERHEAD_BYTES + len(OK.body)


def test_what_there_is_no_room_for_is_dropped_until_there_is() -> None:
    recording = Recording(waiting_max_bytes=2 * SMALL)
    take(recording, 0, 0, 0, 1, 0)
    assert recording.dropped == 3
    batch = recording.take()
    assert batch is not None
    take(recording, 0)
    assert (len(batch), recording.dropped) == (2, 4), "they count until they are written"
    recording.written(batch)
    take(recording, 0)
    assert (recording.dropped, len(recording.take() or ())) == (4, 1)


def test_batches_have_a_size_and_what_is_larger_is_alone() -> None:
    recording = Recording(waiting_max_bytes=4_000_000)
    take(recording, *[100_000] * 3, 1_500_000, 10, 2_000_000, 3_000_000, 20)
    batches = []
    while (batch := recording.take()) is not None:
        batches.append([len(body) for body in batch.bodies])
        assert batch.size == sum(batches[-1]) + len(batch) * SMALL
    assert batches == [[100_000] * 2, [100_000], [1_500_000], [10], [2_000_000], [20]]
    assert recording.dropped == 1


def test_a_sample_is_that_share_of_all_requests() -> None:
    recording = Recording(0.1)
    assert 900 < sum(map(recording.wants, range(1, 10_001))) < 1100
    assert all(map(Recording().wants, range(1, 10_001)))


def test_a_tap_shows_an_exchange_once_it_is_answered_and_nothing_after_the_end() -> None:
    tap, recording = Tap(), Recording()
    answered: list[Any] = []
    tap.begin(recording)
    tap.watch(head(), BODY, answered.append)(OK)
    seen = recording.take()
    assert seen is not None
    assert (answered, seen.answers, seen.bodies) == ([OK], [OK], [BODY])
    late = tap.watch(head(), BODY, answered.append)
    tap.end(recording)
    late(OK)
    assert (len(answered), recording.take(), recording.dropped, tap.recordings) == (2, None, 0, ())


def test_a_third_recording_is_refused() -> None:
    tap = Tap()
    for _ in range(2):
        tap.begin(Recording())
    with pytest.raises(RequestError, match="already") as refused:
        tap.begin(Recording())
    assert refused.value.status == 409


def test_a_frame_that_a_stream_ends_within_is_left_out() -> None:
    text = encode(Frame("0.1", exchanges=1), b"12345") + encode(Frame("1.2"), b"678")
    assert [entries for _, entries in frames_of(io.BytesIO(text))] == [b"12345", b"678"]
    for cut in range(1, len(text)):
        assert [entries for _, entries in frames_of(io.BytesIO(text[:-cut]))] in ([b"12345"], [])
    with pytest.raises(RecordingError, match="no frame"):
        list(frames_of(io.BytesIO(b"<html>\n")))


def test_entries_of_several_workers_come_in_the_order_of_their_times() -> None:
    ordering = Ordering()
    ordering.add([(30, b"third"), (10, b"first")], 0)
    ordering.add([(20, b"second")], 0.5)
    assert ordering.take(0.9) == []
    assert ordering.take(HELD_S) == [b"first"]
    assert ordering.take_all() == [b"second", b"third"]


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
