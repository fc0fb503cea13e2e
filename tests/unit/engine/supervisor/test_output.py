"""What is kept of a worker's log, and how it is passed on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from engine.supervisor.output import LogFile, LogTail

if TYPE_CHECKING:
    from pathlib import Path


def test_a_log_that_is_long_begins_anew_and_one_old_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "supervisor.log"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    try:
        log = LogFile(path, descriptor=descriptor, bytes_max=10)
        for number in range(6):
            os.write(descriptor, b"line %d\n" % number)
            log.turn()
        assert path.read_text() == ""
        assert (tmp_path / "supervisor.log.old").read_text() == "line 4\nline 5\n"
        assert path.stat().st_mode & 0o777 == 0o640
        path.unlink()  # somebody else's business: what is written goes where it went
        os.write(descriptor, b"x" * 20)
        log.turn()
        assert not path.exists()
    finally:
        os.close(descriptor)


def test_whole_lines_are_passed_on_and_the_rest_waits() -> None:
    written: list[bytes] = []
    tail = LogTail(written.append)
    tail.feed(b"one\ntwo\nthr")
    tail.feed(b"ee\n")
    assert written == [b"one\ntwo\n", b"three\n"]
    assert tail.lines() == ["one", "two", "three"]


def test_a_last_line_without_an_end_is_passed_on_when_the_pipe_ends() -> None:
    written: list[bytes] = []
    tail = LogTail(written.append)
    tail.feed(b"Segmentation fault")
    assert written == []
    tail.feed(b"")
    assert written == [b"Segmentation fault\n"]


def test_a_line_that_never_ends_is_cut() -> None:
    written: list[bytes] = []
    tail = LogTail(written.append)
    for _ in range(5):
        tail.feed(b"x" * 16 * 1024)
    assert [len(data) for data in written] == [80 * 1024 + 1]


def test_only_the_last_lines_are_kept() -> None:
    tail = LogTail(lambda _data: None)
    tail.feed(b"".join(b"%d\n" % number for number in range(100)))
    assert tail.lines() == [str(number) for number in range(80, 100)]
    tail.feed(b"y" * 1024 * 1024)
    assert len(tail.kept) == 16 * 1024
