"""The demo as a user runs it: a process of its own, its output, its exit code, and what it leaves behind."""

import contextlib
import fcntl
import http.client
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tasks
from release.demo.cluster import ENGINES
from release.demo.program import Program, StageError
from release.demo.screen import ClaimError, StoryScreen
from release.demo.stage import SITE, Page, Stage
from release.demo.terminal import run as run_command
from release.lab import caches
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
CODE = "import sys; from release import demo; sys.exit(demo.main({arguments}))"
TIMEOUT_S = 60.0


class Demo:
    """A demo under way, its output in a pipe or, with *terminal*, wherever that is read."""

    def __init__(
        self,
        folder: Path,
        *,
        keep: bool = False,
        builtin: bool = True,
        cluster: bool = False,
        terminal: int | None = None,
    ) -> None:
        self.folder = folder
        self.text = ""
        self._stdin = terminal if terminal is not None else subprocess.DEVNULL
        self.process = subprocess.Popen(
            [sys.executable, "-c", CODE.format(arguments=f"{keep=}, {builtin=}, {cluster=}")],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(folder), "PURGELINE_ENGINE__LISTEN": "ignored", "TERM": "xterm"},
            stdin=self._stdin,
            stdout=subprocess.PIPE if terminal is None else terminal,
            stderr=subprocess.STDOUT,
            start_new_session=terminal is not None,
        )

    def read_until(self, wanted: str) -> re.Match[str]:
        """Read on until the output has *wanted*, a pattern."""
        assert self.process.stdout is not None
        while not (found := re.search(wanted, self.text, re.MULTILINE)):
            piece = os.read(self.process.stdout.fileno(), 65536)
            assert piece, f"the output ended without {wanted!r}:\n{self.text}"
            self.text += piece.decode()
        return found

    def finish(self) -> int:
        """Read to the end; return the exit code."""
        if self.process.stdout is not None:
            self.text += self.process.stdout.read().decode()
        return self.process.wait(TIMEOUT_S)

    @property
    def ports(self) -> list[int]:
        """Ports that it named."""
        return [int(port) for port in re.findall(r"http://127\.0\.0\.1:(\d+)", self.text)]

    def assert_nothing_is_left(self) -> None:
        assert list(self.folder.iterdir()) == []
        assert len(self.ports) >= 5
        assert [port for port in self.ports if accepts(port)] == []


@contextlib.contextmanager
def running(folder: Path, **options: Any) -> Iterator[Demo]:
    demo = Demo(folder, **options)
    try:
        yield demo
    finally:
        if demo.process.poll() is None:
            demo.process.terminate()
            demo.process.wait(TIMEOUT_S)
        if demo.process.stdout is not None:
            demo.process.stdout.close()


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def get(port: int, path: str, host: str = SITE) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path, headers={"Host": host})
        return connection.getresponse().read()
    finally:
        connection.close()


def test_the_whole_demo_ends_well_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with running(tmp_path, builtin=False) as demo:
        began = time.monotonic()
        assert demo.finish() == 0, demo.text
        assert time.monotonic() - began < TIMEOUT_S  # 10 s where little else runs
        demo.assert_nothing_is_left()
    assert_told(demo.text, builtin=False)
    assert "\x1b" not in demo.text


def assert_told(text: str, *, builtin: bool) -> None:
    """Check that the whole story is in a demo's output, without colours."""
    assert [line[0] for line in text.splitlines() if re.match(r"\d\. ", line)] == list("123456789")
    for name, driver, software in (("parent-1", "varnish", "Varnish"), ("edge-2", "nginx", "nginx")):
        is_real = driver in caches.available() and not builtin
        shown = re.search(rf"^  {name} +\S+ +(.*)$", text, re.MULTILINE)
        assert shown is not None
        assert shown[1].startswith(software if is_real else "built-in caching proxy")
    assert ("asked for with --builtin" in text) is builtin
    assert "FAILED" not in text
    for claim in ("fresh everywhere", "the task is partial", "the task is done", "subtasks lost: 0"):
        assert f"  ok {claim}\n" in text
    assert re.search(r"^  edge +edge-1, edge-2 +2 of 2 +\d+\.\d ms after", text, re.MULTILINE)
    assert re.search(r"^  edge-2 +logo v1 +HIT, its cache +stale$", text, re.MULTILINE)
    has_canaries = not builtin and {"varnish", "nginx"} <= caches.available().keys()
    assert ("  ok edge-1's canary is stale\n" in text) is has_canaries
    assert ("  ok the sentence names edge-1\n" in text) is has_canaries
    assert ("\nTime to fresh: " in text) is has_canaries


@pytest.mark.slow
@pytest.mark.redis
def test_of_three_engines_one_is_killed_and_then_redis_and_nothing_is_lost(tmp_path: Path) -> None:
    with running(tmp_path, cluster=True) as demo:
        assert demo.finish() == 0, demo.text
        demo.assert_nothing_is_left()
    assert [line[0] for line in demo.text.splitlines() if re.match(r"\d\. ", line)] == list("1234")
    for claim in (
        "every node serves the new page, 300 of 300; lost: 0",
        "the same task again is accepted, and done",
    ):
        assert f"  ok {claim}\n" in demo.text
    assert [len(re.findall(rf"^    {name} +alive", demo.text, re.MULTILINE)) for name in ENGINES] == [2, 2, 2]


def test_a_terminal_of_80_columns_gets_colours_and_no_broken_lines(tmp_path: Path) -> None:
    """The demo with built-in proxies instead of caches, which is as whole as the other."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    pieces = []
    with running(tmp_path, terminal=theirs) as demo:
        os.close(theirs)
        with contextlib.suppress(OSError):  # EIO: the demo was the last to have the terminal open
            while piece := os.read(ours, 65536):
                pieces.append(piece)
        assert demo.finish() == 0
    os.close(ours)
    shown = b"".join(pieces).decode()
    assert "\x1b[1;36m1. A page gets cached" in shown
    assert "\x1b[32mfresh" in shown
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r\n", "\n")
    lines = [line.rpartition("\r")[2] for line in plain.split("\n")]
    assert [line for line in lines if len(line) > 80] == []
    demo.text = "\n".join(lines)
    demo.assert_nothing_is_left()
    assert_told(demo.text, builtin=True)
    assert "task_id        " in plain  # purgeline itself was on a terminal, too


@pytest.mark.slow
def test_keep_leaves_all_running_until_ctrl_c(tmp_path: Path) -> None:
    with running(tmp_path, keep=True) as demo:
        demo.read_until(r"^Stop it with Ctrl-C")
        edge = demo.read_until(r"curl -i -H 'Host: \S+' http://127\.0\.0\.1:(\d+)/logo\.svg")
        assert get(int(edge[1]), "/logo.svg") == b"logo v3"
        engine = demo.read_until(r"curl http://127\.0\.0\.1:(\d+)/metrics")
        assert b"purgeline" in get(int(engine[1]), "/metrics")
        demo.process.send_signal(signal.SIGINT)
        assert demo.finish() == 0
        demo.assert_nothing_is_left()


@pytest.mark.parametrize(
    ("number", "where"),
    [
        (signal.SIGINT, "^Purgeline"),
        (signal.SIGHUP, "^5. "),
        *(
            pytest.param(number, where, marks=pytest.mark.slow)
            for number, where in [
                (signal.SIGTERM, "^3. "),
                (signal.SIGTERM, "^Purgeline"),
                (signal.SIGHUP, "^Purgeline"),
                (signal.SIGINT, "^3. "),
                (signal.SIGHUP, "^3. "),
                (signal.SIGINT, "^5. "),
                (signal.SIGTERM, "^5. "),
            ]
        ),
    ],
)
def test_an_interrupt_cleans_up(number: signal.Signals, where: str, tmp_path: Path) -> None:
    with running(tmp_path) as demo:
        demo.read_until(where)
        demo.process.send_signal(number)
        assert demo.finish() == 128 + number, demo.text
        assert list(tmp_path.iterdir()) == []
        assert [port for port in demo.ports if accepts(port)] == []
        assert "Traceback" not in demo.text


@pytest.mark.slow
@pytest.mark.parametrize("builtin", [False, True], ids=["real", "builtin"])
def test_a_demo_that_is_killed_leaves_no_process(builtin: bool, tmp_path: Path) -> None:
    with running(tmp_path, keep=True, builtin=builtin) as demo:
        demo.read_until(r"^Stop it with Ctrl-C")
        assert any(accepts(port) for port in demo.ports)
        demo.process.kill()
        demo.finish()
        wait_until(lambda: not any(accepts(port) for port in demo.ports), what="all ports being closed")


def test_what_is_not_true_is_never_claimed(tmp_path: Path) -> None:
    """The engine dies under the demo: it says so and ends with 1."""
    with running(tmp_path) as demo:
        pid = demo.read_until(r"purgeline serve, pid (\d+)")
        demo.read_until(r"^5\. ")
        os.kill(int(pid[1]), signal.SIGKILL)
        assert demo.finish() == 1
        assert "\nFAILED not true: exit code\n    expected: 1\n    seen:     3\n" in demo.text
        assert "Traceback" not in demo.text
        demo.assert_nothing_is_left()


def test_a_cache_that_is_not_purged_fails_the_demo(tmp_path: Path) -> None:
    """edge-1 dies where the story does not want it, so it cannot be shown to be fresh."""
    with running(tmp_path) as demo:
        port = int(demo.read_until(r"^  edge-1 +http://127\.0\.0\.1:(\d+)")[1])
        pid = pid_listening_on(port)
        os.kill(pid, signal.SIGKILL)
        assert demo.finish() == 1
        assert re.search(r"^FAILED ", demo.text, re.MULTILINE)
        assert "subtasks lost" not in demo.text
        demo.assert_nothing_is_left()


def pid_listening_on(port: int) -> int:
    """Find the process by its command line, which names the port."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if b"release.lab.cacheproxy" in words and str(port).encode() in words:
                return int(path.parent.name)
    raise AssertionError(f"nobody on port {port}")


def test_a_claim_shows_what_was_expected_and_what_was_seen(capsys: pytest.CaptureFixture[str]) -> None:
    screen = StoryScreen()
    screen.claim("apples:", 2, 2)
    screen.claim("all are green", {"a": Page("v1", is_hit=True)}, {"a": Page("v1", is_hit=True)})
    screen.claim("yes", True, True)
    assert capsys.readouterr().out == "  ok apples: 2\n  ok all are green\n  ok yes\n"
    with pytest.raises(ClaimError) as caught:
        screen.claim("fresh", {"a": Page("v2", is_hit=False)}, {"a": Page("v1", is_hit=True), "b": 1})
    assert str(caught.value) == "not true: fresh\n    expected: a: v2 (MISS)\n    seen:     a: v1 (HIT), b: 1"
    assert capsys.readouterr().out == ""


def test_text_is_printed_as_it_is_and_in_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    screen = StoryScreen()
    screen.say("[bold]word[/bold] :smile: " * 10)
    screen.command("purgeline purge " + " ".join(f"http://img.example.com/{n}" for n in range(5)))
    screen.output("\n\n" + "x " * 60 + "\n\n\nlast\n")
    screen.table(["who", "is"], [["a", "fresh"], ["longer", "HIT, its cache"]])
    lines = capsys.readouterr().out.split("\n")
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("[bold]word[/bold] :smile: [bold]word")
    assert [line for line in lines if line != line.rstrip()] == []
    assert "  $ purgeline purge http://img.example.com/0 http://img.example.com/1 \\" in lines
    assert lines[-5:] == ["    last", "  who     is", "  a       fresh", "  longer  HIT, its cache", ""]


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_command_sees_a_terminal_only_when_there_is_one(is_terminal: bool) -> None:
    code = "import sys; print(sys.stdout.isatty()); print('oops', file=sys.stderr); sys.exit(3)"
    printed = run_command(
        [sys.executable, "-c", code], os.environ, cwd=ROOT, width=70, is_terminal=is_terminal
    )
    assert printed.exit_code == 3
    assert sorted(printed.plain.split()) == sorted([str(is_terminal), "oops"])


def test_a_program_that_ends_at_start_is_told_with_its_log(tmp_path: Path) -> None:
    program = Program("odd", caches.free_port(), ["release.lab.cacheproxy", "--nonsense"], folder=tmp_path)
    with pytest.raises(StageError, match=r"(?s)odd ended at start with 2:.*--port"):
        program.start()
    program.kill()
    assert program.pid is None


@pytest.mark.slow
def test_a_machine_with_varnish_alone_uses_the_built_in_proxy_for_the_rest(tmp_path: Path) -> None:
    """And the reason names the package."""
    stage = Stage(tmp_path, builtin=False, found={"varnish": caches.available()["varnish"]})
    try:
        stage.start()
        kinds = {node.name: (node.server.driver, node.why_builtin) for node in stage.nodes}
        assert kinds["parent-1"] == kinds["edge-1"] == ("varnish", "")
        assert kinds["edge-2"][0] == "squid"
        assert "libnginx-mod-http-cache-purge" in kinds["edge-2"][1]
        stage.origin.set(SITE, "/a", b"a")
        seen = [repr(node.get("/a")) for _ in range(2) for node in stage.nodes]
        assert seen == ["a (MISS)"] * 3 + ["a (HIT)"] * 3
        assert stage.stop_engines() == {"engine": 0}
    finally:
        stage.close()


def test_the_task_passes_its_flags_on() -> None:
    names = [argument.names for argument in tasks.demo.get_arguments()]
    assert names == [("keep", "k"), ("builtin", "b"), ("cluster", "c")]
