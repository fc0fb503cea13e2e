"""Log lines through real pipes and files."""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
from loguru import logger

from engine.observe.line_writer import LineWriter
from engine.observe.logs import Logs, setup
from engine.tasks.words import Operation, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Log:
    """A log into a file, and what it holds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.logs: Logs | None = None

    def open(self, log_format: str, level: str = "INFO") -> Logs:
        self.logs = setup(log_format=log_format, level=level, version="1.4.2", stream_fd=self.fd)
        return self.logs

    def text(self) -> str:
        assert self.logs is not None
        assert self.logs.flush(10)
        return self.path.read_text(encoding="utf-8")

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().split("\n")[:-1]]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    log = Log(tmp_path / "log")
    yield log
    if log.logs is not None:
        log.logs.close()
    os.close(log.fd)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("log_format", ["struct", "dict"])
def test_json_line_has_what_was_bound(log: Log, log_format: str) -> None:
    """Known fields are on top, others under extra, unset ones nowhere; the same in both variants."""
    log.open(log_format)
    logger.bind(task_id="t1", node="edge-1", action="purge", shard=3).warning("it {} so", "was")
    (line,) = log.lines()
    assert line.pop("time") > 1_600_000_000
    assert line == {
        "level": "WARNING",
        "message": "it was so",
        "service": "purgeline/1.4.2",
        "action": "purge",
        "task_id": "t1",
        "node": "edge-1",
        "extra": {"shard": 3},
    }


@pytest.mark.parametrize("log_format", ["struct", "dict"])
def test_subtask_line(log: Log, log_format: str) -> None:
    """The line that goes past loguru looks like the others; enum values become words."""
    rows = [
        ("t1", "http://a.org/x", Operation.PURGE_URL, 200, Outcome.ACKED),
        ("t2", "http://a.org/y", Operation.PURGE_URL, 404, Outcome.ABSENT),
    ]
    log.open(log_format).subtasks("edge-1", rows, 1.5)
    line, other = log.lines()
    assert (other["task_id"], other["target"], other["outcome"]) == ("t2", "http://a.org/y", "absent")
    assert line.pop("time") > 1_600_000_000
    assert line == {
        "level": "INFO",
        "message": "subtask",
        "service": "purgeline/1.4.2",
        "task_id": "t1",
        "node": "edge-1",
        "target": "http://a.org/x",
        "operation": "purge_url",
        "status": 200,
        "outcome": "acked",
        "duration_ms": 1.5,
    }


NASTY = 'two\nlines\r\x1b[31m\x00\x85\u2028 {brace} "quote" <red>'


@pytest.mark.parametrize("log_format", ["struct", "dict", "text"])
def test_no_value_breaks_a_line(log: Log, log_format: str) -> None:
    """Neither message, bound value nor key can start a line of its own or move the cursor."""
    log.open(log_format)
    logger.bind(task_id=NASTY, **{NASTY: NASTY}).info(NASTY)
    text = log.text()
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert "\r" not in text
    if log_format == "text":
        assert len(text.splitlines()) == 1, "also for those who split at U+0085 and U+2028"
    else:
        assert json.loads(text)["message"] == NASTY
        assert json.loads(text)["extra"] == {NASTY: NASTY}


class Unprintable:
    def __str__(self) -> str:
        raise ValueError("no")

    __repr__ = __str__


@pytest.mark.parametrize("log_format", ["struct", "dict", "text"])
@pytest.mark.parametrize("value", ["\ud800", 1 << 80, Unprintable(), {1: {2}}, float("nan"), [object()]])
def test_odd_values_do_not_lose_the_line(log: Log, log_format: str, value: object) -> None:
    """Whatever somebody binds, the line is written."""
    log.open(log_format)
    logger.bind(task_id="t1", odd=value).info("still here")
    assert log.text().count("still here") == 1
    assert log.text().count("\n") == 1


@pytest.mark.parametrize("log_format", ["struct", "dict"])
def test_exception_is_a_field(log: Log, log_format: str) -> None:
    """The traceback is one string; variables' values are not in it."""
    log.open(log_format)
    secret = "hunter" + "2"
    try:
        int(secret[:6])
    except ValueError:
        logger.exception("bad number")
    (line,) = log.lines()
    assert line["exception"].startswith("Traceback")
    assert "invalid literal for int()" in line["exception"]
    assert "hunter2" not in line["exception"]


def test_text_exception_rows_are_marked(log: Log) -> None:
    """A traceback is readable, and none of its rows passes for a log line."""
    log.open("text")
    logger.opt(exception=ValueError("x\n12:00:00.000 INFO    forged\x1b")).error("bad")
    first, *rest = log.text().splitlines()
    assert first.endswith("ERROR   bad")
    assert rest
    assert all(row.startswith("    | ") for row in rest)
    assert "\x1b" not in log.text()


def test_text_shows_what_was_bound(log: Log) -> None:
    """Zeros too: none left is news."""
    log.open("text")
    logger.bind(node="edge-1", left=0).info("busy")
    assert log.text().endswith("INFO    busy node=edge-1 left=0\n")


def test_text_has_no_colour_in_a_file_but_on_a_terminal(log: Log) -> None:
    """Colour is for terminals only."""
    log.open("text")
    logger.error("red?")
    assert "\x1b" not in log.text()
    assert log.logs is not None
    log.logs.close()
    leader, follower = os.openpty()
    logs = setup(log_format="text", level="INFO", version="1", stream_fd=follower)
    logger.error("red!")
    logs.close()
    assert b"\x1b[31mERROR" in os.read(leader, 1000)
    os.close(leader)
    os.close(follower)
    log.open("text")


def test_swap_and_cycle_at_run_time(log: Log) -> None:
    """The next line is in the next format; an unknown name changes nothing."""
    logs = log.open("struct")
    logger.info("one")
    assert logs.cycle() == "dict"
    assert logs.cycle() == "text"
    logger.info("two")
    assert logs.cycle() == "struct"
    with pytest.raises(KeyError):
        logs.swap("xml")
    assert logs.format_name == "struct"
    one, two = log.text().splitlines()
    assert json.loads(one)["message"] == "one"
    assert two.endswith("INFO    two")


def test_level(log: Log) -> None:
    """Below the level nothing is written, from either library."""
    log.open("struct", level="WARNING")
    logger.info("no")
    logging.getLogger("aiohttp").info("no")
    logger.warning("yes")
    assert [line["message"] for line in log.lines()] == ["yes"]


def test_standard_logging_comes_along(log: Log) -> None:
    """What asyncio and aiohttp log is a line like the others; braces and tags in it stay as they are."""
    log.open("struct")
    try:
        os.close(-1)
    except OSError:
        logging.getLogger("asyncio").exception("%s {x} <b>", "socket")
    logging.getLogger("aiohttp").log(25, "between the levels")
    first, second = log.lines()
    assert (first["message"], first["level"], first["extra"]) == (
        "socket {x} <b>", "ERROR", {"logger": "asyncio"},
    )  # fmt: skip
    assert "OSError: [Errno 9]" in first["exception"]
    assert second["message"] == "between the levels"


def fill(fd: int) -> None:
    """Fill a pipe to the brim."""
    os.set_blocking(fd, False)
    try:
        while True:
            os.write(fd, b"x" * 4096)
    except BlockingIOError:
        return


@pytest.mark.parametrize("is_blocking", [True, False])
def test_blocked_pipe_blocks_nobody_and_drops_are_counted(is_blocking: bool) -> None:
    """With a reader that stopped, `write` still returns; what does not fit is dropped, the rest comes."""
    reader, fd = os.pipe()
    fill(fd)
    os.set_blocking(fd, is_blocking)
    writer = LineWriter(fd, lines_max=50)
    for number in range(1000):
        writer.write(b"line %d\n" % number)
    assert not writer.flush(0.05)
    dropped = writer.dropped
    assert 0 < 1000 - dropped <= 1000
    got = read_until(reader, lambda data: data.count(b"\n") >= 1000 - dropped)
    assert writer.flush(10)
    lines = got.lstrip(b"x").split(b"\n")[:-1]
    assert len(lines) == 1000 - dropped
    assert lines[0] == b"line 0"
    writer.close()
    os.close(reader)
    os.close(fd)


def test_lines_written_together_count_as_so_many() -> None:
    """The bound is of lines, however they come: a batch that finds no room is dropped whole, and counted."""
    reader, fd = os.pipe()
    fill(fd)
    writer = LineWriter(fd, lines_max=50)
    for _ in range(100):
        writer.write(b"line\n" * 10, 10)
    assert not writer.flush(0.05)
    kept = 1000 - writer.dropped
    assert 50 <= kept < 1000
    assert kept % 10 == 0
    os.close(reader)
    assert writer.flush(10)
    assert writer.dropped == 1000
    writer.close()
    os.close(fd)


def read_until(fd: int, enough: Callable[[bytes], bool]) -> bytes:
    data = b""
    while not enough(data):
        data += os.read(fd, 65536)
    return data


@pytest.mark.parametrize("is_blocking", [True, False])
def test_partial_writes_lose_nothing(is_blocking: bool) -> None:
    """A batch far larger than the pipe arrives whole and in order."""
    reader, fd = os.pipe()
    os.set_blocking(fd, is_blocking)
    writer = LineWriter(fd)
    expected = [b"%d %s\n" % (number, b"y" * 1000) for number in range(2000)]
    for line in expected:
        writer.write(line)
    assert read_until(reader, lambda data: data.count(b"\n") == 2000) == b"".join(expected)
    writer.close()
    assert writer.dropped == 0
    os.close(reader)
    os.close(fd)


def test_reader_gone_is_counted_and_survived() -> None:
    """EPIPE drops the batch; the thread lives on."""
    reader, fd = os.pipe()
    os.close(reader)
    writer = LineWriter(fd)
    for _ in range(3):
        writer.write(b"line\n")
        assert writer.flush(10)
    assert writer.dropped == 3
    writer.close()
    os.close(fd)


def test_line_after_a_torn_one_stands_alone(tmp_path: Path) -> None:
    """A disk that fills up within a line does not spoil the first line after it."""
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    writer = LineWriter(fd)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, hard))  # then write() fails like on a full disk
    try:
        writer.write(b"one\n")
        assert writer.flush(10)
        writer.write(b"two, torn\n")
        assert writer.flush(10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    writer.write(b"three\n")
    writer.close()
    os.close(fd)
    assert (tmp_path / "log").read_bytes() == b"one\ntwo,\nthree\n"
    assert writer.dropped == 1


def test_close_writes_what_is_queued_and_ends_the_thread(tmp_path: Path) -> None:
    """Later lines are dropped and counted; flushing a closed writer does not wait."""
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    before = threading.active_count()
    writer = LineWriter(fd)
    for _ in range(100):
        writer.write(b"line\n")
    writer.close()
    assert threading.active_count() == before
    assert (tmp_path / "log").read_bytes() == b"line\n" * 100
    writer.write(b"late\n")
    assert writer.dropped == 1
    assert writer.flush(10)
    os.close(fd)


def test_lines_of_many_threads_stay_whole(log: Log) -> None:
    """Savers log too."""
    log.open("struct")
    threads = [threading.Thread(target=lambda: [logger.info("x" * 200) for _ in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(log.lines()) == 400
