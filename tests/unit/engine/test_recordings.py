"""Recordings: the format, the messages in them, and what is changed before a request is sent again."""

import gzip
import json
from pathlib import Path

import pytest

from engine.errors import RecordingError
from engine.recordings.gor import REQUEST, RESPONSE, SEPARATOR, Entry, chunks_of, encode, read
from engine.recordings.messages import Request, request_of, response_of
from engine.recordings.report import Report
from engine.recordings.rewriting import ID_MAX_CHARS, Rewriting, with_task

POST = b"POST /v1/engine/task HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"


def entry(name: str, message: bytes = POST, kind: int = REQUEST, at_ns: int = 5) -> Entry:
    return Entry(kind, name, at_ns, message)


def test_a_recording_reads_as_it_was_written(tmp_path: Path) -> None:
    entries = [entry("a1"), Entry(RESPONSE, "a1", 7, b"HTTP/1.1 202 Accepted\r\n\r\n", 2), entry("b2")]
    text = b"".join(map(encode, entries))
    plain, packed = tmp_path / "t.gor", tmp_path / "t.gor.gz"
    plain.write_bytes(text)
    packed.write_bytes(gzip.compress(text))
    assert list(read(plain)) == list(read(packed)) == entries


def test_entries_of_versions_without_a_latency_are_read(tmp_path: Path) -> None:
    (tmp_path / "t.gor").write_bytes(b"1 abc 1700000000000000000\n" + POST + SEPARATOR)
    assert list(read(tmp_path / "t.gor")) == [Entry(REQUEST, "abc", 1_700_000_000_000_000_000, POST, 0)]


def test_chunks_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (0, 10, 2):
        (tmp_path / f"t_{number}.gor").write_bytes(encode(entry(f"n{number}")))
    (tmp_path / "tt_1.gor").write_bytes(b"")
    assert [each.id for each in read(tmp_path / "t.gor")] == ["n0", "n2", "n10"]
    assert chunks_of(tmp_path / "t_0.gor") == chunks_of(tmp_path / "t.gor")
    assert chunks_of(tmp_path / "t_2.gor") == [tmp_path / "t_2.gor"]


def test_a_message_with_the_separator_in_it_is_not_written() -> None:
    with pytest.raises(RecordingError, match="separator"):
        encode(entry("a", POST + SEPARATOR))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (encode(entry("a")) + b"1 b 6\n" + POST, "byte {}: the file ends in the middle of a message"),
        (encode(entry("a")) + b"GET / HTTP/1.1" + SEPARATOR, "byte {}: b'GET / HTTP/1.1' does not begin"),
        (encode(entry("a")) + b"4 b 6\n" + SEPARATOR, "does not begin a message"),
    ],
)
def test_damage_is_named_by_its_byte_and_what_is_before_it_is_read(
    tmp_path: Path, text: bytes, says: str
) -> None:
    (tmp_path / "t.gor").write_bytes(text)
    found: list[Entry] = []
    with pytest.raises(RecordingError) as refused:
        found.extend(read(tmp_path / "t.gor"))
    assert [each.id for each in found] == ["a"]
    assert says.format(len(encode(entry("a")))) in str(refused.value)


def test_what_is_no_file_or_no_gzip_is_said(tmp_path: Path) -> None:
    (tmp_path / "t.gor.gz").write_bytes(b"no gzip")
    with pytest.raises(RecordingError, match="cannot be read"):
        list(read(tmp_path / "t.gor.gz"))
    with pytest.raises(RecordingError, match="no such file, and no chunks"):
        list(read(tmp_path / "none" / "x.gor"))


def test_messages_are_taken_apart() -> None:
    request = request_of(POST)
    assert (request.method, request.path, request.get("HOST"), request.body) == (
        "POST",
        "/v1/engine/task",
        "a",
        b"{}",
    )
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=1\r\nde\r\n0\r\n\r\n"
    assert response_of(chunked).body == b"abcde"
    for text in (b"", b"POST\r\n\r\n", b"a b c d\r\n\r\n"):
        with pytest.raises(RecordingError, match="no request line"):
            request_of(text)
    with pytest.raises(RecordingError, match="no status line"):
        response_of(b"HTTP/1.1 x\r\n\r\n")


def task(path: str = "/v1/engine/task", **fields: object) -> Request:
    secret = [
        ("Authorization", "Bearer recorded"),
        ("Host", "a"),
        ("X-Request-Id", "7"),
        ("Traceparent", f"00-{'a' * 32}-{'b' * 16}-01"),
        ("tracestate", "vendor=1"),
        ("Connection", "close"),
    ]
    return Request("POST", path, secret, json.dumps(fields).encode())


def test_a_request_is_sent_with_an_id_of_its_own_without_callback_and_recorded_token() -> None:
    ready = Rewriting("r1").ready(task(id="job", targets=["http://a/"], callback="http://customer/"))
    assert json.loads(ready.body) == {"id": "job.r1", "targets": ["http://a/"]}
    assert ready.fields == [("X-Request-Id", "7")]  # neither token nor trace
    assert ("Authorization", "Bearer t") in Rewriting("r1", token="t").ready(task(targets=[])).fields
    kept = Rewriting("r1", keeps_callbacks=True).ready(task(callback="http://customer/"))
    assert json.loads(kept.body) == {"callback": "http://customer/"}


def test_ids_differ_from_pass_to_pass_and_are_never_too_long() -> None:
    rewriting = Rewriting("r1")
    first = rewriting.new_id("j" * ID_MAX_CHARS)
    rewriting.begin_pass(1)
    second = rewriting.new_id("j" * ID_MAX_CHARS)
    assert first != second
    assert max(len(first), len(second)) <= ID_MAX_CHARS
    assert rewriting.new_id("job") == "job.r1-1"


def test_every_line_of_several_tasks_is_changed_and_what_is_no_task_is_left() -> None:
    body = b'{"id":"a","targets":[]}\n\nno json\n[1]\n{"id":"b"}'
    ready = Rewriting("r1").ready(Request("POST", "/v1/engine/tasks", [], body))
    assert ready.body == b'{"id":"a.r1","targets":[]}\n\nno json\n[1]\n{"id":"b.r1"}'


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("http://a.org/x?y", "http://b.org/x?y"),
        ("https://a.org", "https://b.org"),
        ("http://aa.org/a.org", "http://aa.org/a.org"),
        ("a.org/key", "b.org/key"),
        ("a.org", "b.org"),
        ({"host": "a.org", "key": "k"}, {"host": "b.org", "key": "k"}),
        (7, 7),
    ],
)
def test_hosts_of_targets_are_rewritten(target: object, sent: object) -> None:
    ready = Rewriting("r1", hosts={"a.org": "b.org"}).ready(task(targets=[target]))
    assert json.loads(ready.body)["targets"] == [sent]


def test_what_is_no_host_is_refused() -> None:
    with pytest.raises(RecordingError, match="is no host"):
        Rewriting("r1", hosts={"a.org": "http://b.org"})


def test_requests_about_a_task_are_about_the_new_one() -> None:
    ready = Rewriting("r1").ready(
        Request("GET", "http://engine:9181/v1/engine/task/job/receipt?x=1", [], b"")
    )
    assert (ready.names, ready.path) == ("job", "/v1/engine/task/job/receipt?x=1")
    assert with_task(ready.path, "new") == "/v1/engine/task/new/receipt?x=1"
    with pytest.raises(RecordingError, match="is no path"):
        Rewriting("r1").ready(Request("CONNECT", "a:443", [], b""))


def test_a_report_counts_what_is_the_same_and_lists_what_is_not() -> None:
    report = Report()
    for answered, recorded in ((202, 202), (503, 202), (0, 200)):
        report.sent += 1
        report.answered(answered, 0.010)
        report.compare("POST /", recorded, answered, "")
    document = report.document()
    assert not report.is_alike
    assert (document["compared"], document["same"], document["different"]) == (3, 1, 2)
    assert document["unanswered"] == 1
    assert document["latency"] == {"p50_ms": 10.0, "p90_ms": 10.0, "p99_ms": 10.0, "max_ms": 10.0}
    assert {(each["recorded"], each["answered"]) for each in document["changes"]} == {(202, 503), (200, 0)}
