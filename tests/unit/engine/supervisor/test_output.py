"""What is kept of a worker's log, and how it is passed on."""

from __future__ import annotations

from engine.supervisor.output import LogTail


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
