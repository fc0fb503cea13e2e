"""release.show.steady: a reader that is gone, or asleep, neither fails nor delays who writes."""

import fcntl
import os
import signal
from pathlib import Path
from typing import TextIO

import pytest

from release.hosts import journal
from release.rollout.hooks import Hooks
from release.rollout.interrupts import Interrupts
from release.show.steady import Steady, Writer
from tests.waiting import wait_until


def pipe(encoding: str = "utf-8") -> tuple[int, TextIO]:
    """Return the reading end of a small pipe, and a stream that writes to it."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    return reader, os.fdopen(writer, "w", encoding=encoding)


def test_a_reader_that_is_gone_is_no_error_now_or_at_the_exit() -> None:
    """`deploy | head` ended the hosts' threads in mid-step."""
    reader, stream = pipe()
    os.close(reader)
    writer = Writer()
    steady = Steady(stream, writer, may_drop=True)
    for number in range(100):
        assert steady.write(f"line {number}\n") > 0
    writer.drain()
    assert str(Path(f"/proc/self/fd/{stream.fileno()}").readlink()) == os.devnull
    stream.close()  # as the interpreter does: what the stream still holds is flushed


def test_a_reader_that_sleeps_delays_nobody_and_gets_all_in_order_when_it_wakes() -> None:
    reader, stream = pipe()
    writer = Writer()
    out, err = (Steady(stream, writer, may_drop=may_drop) for may_drop in (False, True))
    lines = [f"{number:06}\n" for number in range(3000)]
    for number, line in enumerate(lines):
        (err if number % 2 else out).write(line)  # far more than the pipe takes
    read = b""
    while len(read) < 7 * len(lines):
        read += os.read(reader, 65536)
    writer.drain()
    assert read.decode() == "".join(lines)
    os.close(reader)
    stream.close()


def test_a_stream_that_lacks_a_sign_shows_another_one() -> None:
    reader, stream = pipe("ascii")
    writer = Writer()
    steady = Steady(stream, writer, may_drop=False)
    steady.writelines(["a → b", "\n"])
    writer.drain()
    assert os.read(reader, 100) == b"a ? b\n"
    os.close(reader)
    stream.close()


def test_a_hook_whose_output_nobody_reads_goes_on_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It died of SIGPIPE, which took the deploy back."""
    reader, stream = pipe()
    os.close(reader)
    saved = os.dup(2)
    os.dup2(stream.fileno(), 2)
    monkeypatch.setattr("sys.stderr", stream)
    run = journal.new_run("deploy", version="2.0", root="/srv/p", hosts=["a"])
    try:
        Hooks({"post-reload": f"seq 50000; touch {tmp_path}/done"}, run, timeout_s=10).call(
            "post-reload", ["a"]
        )
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        Steady(stream, writer := Writer(), may_drop=False).write("")
        writer.drain()
    assert (tmp_path / "done").exists()


def test_a_closed_terminal_stops_nothing() -> None:
    said: list[str] = []
    with Interrupts(said.append) as interrupts:
        os.kill(os.getpid(), signal.SIGHUP)
        assert (interrupts.asked, said) == ("", [])
        os.kill(os.getpid(), signal.SIGTERM)
        wait_until(lambda: interrupts.asked == "SIGTERM", what="the signal")
    assert len(said) == 1
