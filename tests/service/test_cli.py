from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engine._version import __version__
from engine.cli import client
from engine.cli import main as cli
from engine.cli.cells import NODE_COLUMNS
from engine.errors import StoreError
from tests.fakes.engine import HEAD, Answer, FakeEngine, problem, task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).parents[2]
COMMANDS = (
    *("serve", "purge", "prefetch", "status", "watch", "cancel"),
    *("tasks", "nodes", "stats", "version", "check-config", "check-nodes", "render"),
)
REFUSED = "http://127.0.0.1:1"
URL = "http://img.example.com/a.jpg"
NODE = {
    "name": "edge-1",
    "layer": "edge",
    "driver": "varnish",
    "url": "http://127.0.0.1:6081",
    "state": "down",
    "waiting": 1,
    "in_flight": 0,
    "delayed": 7,
    "oldest_delayed_s": 3.25,
    "acked": 10,
    "refused": 0,
    "failed": 2,
    "canary": {"state": "fresh", "reason": "", "at": 1.5, "kinds": {}},
    "last_error": "refused\tby \x1b[31mpeer",
    "last_error_at": 1763935265.5,
}
STATS = {
    "saver_queue": 3,
    "qps_boss": {"1m": 1.5, "5m": 1.0, "15m": 0.5, "avg": 1, "count": 9},
    "timestamp": 1.0,
}
CONFIG = """
[engine]
listen = "127.0.0.1:9999"
[[layer]]
name = "parent"
[[layer]]
name = "edge"
[[node]]
name = "edge-1"
layer = "edge"
driver = "varnish"
url = "http://127.0.0.1:6081"
parents = ["parent-1"]
headers = {X-Secret = "hush"}
[[node]]
name = "parent-1"
layer = "parent"
driver = "ats"
url = "http://127.0.0.1:8080"
"""


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    with FakeEngine().running() as running:
        monkeypatch.setenv("PURGELINE_URL", running.url)
        monkeypatch.delenv("PURGELINE_TOKEN", raising=False)
        yield running


@pytest.fixture(autouse=True)
def no_input(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Standard input is empty, or what a test gives."""

    def give(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    give(b"")
    return give


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waiting for a busy engine takes no time; what would have been slept is noted."""
    slept: list[float] = []
    create = client.EngineClient
    monkeypatch.setattr(
        client, "EngineClient", lambda *args, **options: create(*args, **options, sleep=slept.append)
    )
    return slept


def run(*argv: str, stdin: bytes = b"", **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "engine", *argv]
    return subprocess.run(
        command, input=stdin, capture_output=True, cwd=ROOT, check=False, timeout=60, **options
    )


def run_in_terminal(
    *argv: str,
    until: Callable[[str], bool] = lambda _: False,
    width: int = 100,
    program: tuple[str, ...] = ("-m", "engine"),
) -> tuple[int, str]:
    """Run the command on a terminal so wide, press Ctrl-C at *until*; return its code and output."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.environ.update(TERM="xterm-256color", COLUMNS=str(width))
        os.environ.pop("NO_COLOR", None)
        os.execv(sys.executable, [sys.executable, *program, *argv])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    shown, is_pressed = b"", False
    with contextlib.suppress(OSError):  # EIO: Linux's way to say that the other side is closed
        while chunk := os.read(terminal, 65536):
            shown += chunk
            if not is_pressed and until(shown.decode(errors="replace")):
                is_pressed = os.write(terminal, b"\x03") == 1
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


# --- handing in ----------------------------------------------------------------------------------


def test_purge_is_accepted(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --wait an accepted task is success; the pipe gets id, state and subtasks."""
    assert cli.main(["purge", URL]) == 0
    ((_, _, body),) = engine.requests
    assert body == {"id": body["id"], "action": "purge", "kind": "url", "targets": [URL]}
    assert re.fullmatch(r"[0-9a-f]{32}", body["id"])
    assert capsys.readouterr() == (f"{body['id']}\taccepted\t1\n", "")


def test_options_reach_the_task(engine: FakeEngine) -> None:
    options = ["--soft", "--prefetch", "--layer", "edge", "--node", "e1", "--node", "e2"]
    more = ["--id", "deploy-7", "--due", "2.5", "--callback", "http://ci/x"]
    assert cli.main(["purge", "--key", "example.com/k", *options, *more, "example.com/l"]) == 0
    assert engine.requests[0][2] == {
        "id": "deploy-7",
        "action": "purge",
        "kind": "key",
        "soft": True,
        "prefetch": True,
        "layers": ["edge"],
        "nodes": ["e1", "e2"],
        "due_s": 2.5,
        "callback": "http://ci/x",
        "targets": ["example.com/k", "example.com/l"],
    }


@pytest.mark.parametrize(
    ("words", "verify"),
    [
        (["--verify", "all"], True),
        (["--verify", "off"], False),
        (["--verify", "sample:20"], {"sample": 20}),
        (["--host", "--verify-url", URL, "--verify-url", "http://x/"], {"urls": [URL, "http://x/"]}),
    ],
)
def test_how_a_purge_is_verified_reaches_the_task(
    engine: FakeEngine, words: list[str], verify: object
) -> None:
    assert cli.main(["purge", *words, "x"]) == 0
    assert engine.requests[0][2]["verify"] == verify


@pytest.mark.parametrize("kind", ["prefix", "regex", "key", "host"])
def test_kinds(engine: FakeEngine, kind: str) -> None:
    assert cli.main(["purge", f"--{kind}", "x"]) == 0
    assert engine.requests[0][2]["kind"] == kind


def test_prefetch(engine: FakeEngine) -> None:
    assert cli.main(["prefetch", URL]) == 0
    body = engine.requests[0][2]
    assert (body["action"], body["kind"]) == ("prefetch", "url")


def test_targets_from_standard_input(engine: FakeEngine, no_input: Callable[[bytes], None]) -> None:
    no_input(b"\xef\xbb\xbfhttp://a/1\r\n\n  # comment\n http://a/2#x \nhttp://a/\xc3\xa9")
    assert cli.main(["purge"]) == 0
    assert engine.requests[0][2]["targets"] == ["http://a/1", "http://a/2#x", "http://a/é"]


def test_targets_from_files_arguments_and_dash_together(
    engine: FakeEngine, tmp_path: Path, no_input: Callable[[bytes], None]
) -> None:
    no_input(b"http://a/3\n")
    (tmp_path / "urls").write_text("# all\nhttp://a/2\n", encoding="utf-8")
    assert cli.main(["purge", "http://a/1", "--file", str(tmp_path / "urls"), "-"]) == 0
    assert engine.requests[0][2]["targets"] == ["http://a/1", "http://a/2", "http://a/3"]


def test_standard_input_is_left_alone_when_a_url_is_given(
    engine: FakeEngine, no_input: Callable[[bytes], None]
) -> None:
    """A loop `while read url; do purgeline purge "$url"; done` must not lose its input."""
    no_input(b"http://a/other\n")
    assert cli.main(["purge", URL]) == 0
    assert engine.requests[0][2]["targets"] == [URL]


@pytest.mark.parametrize("content", [b"", b"# nothing\n\n", b"http://a/\xff\n"])
def test_input_without_usable_targets_is_a_usage_error(
    engine: FakeEngine, no_input: Callable[[bytes], None], content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    no_input(content)
    assert cli.main(["purge"]) == 2
    assert not engine.requests
    assert re.search(r"no target|cannot be read", capsys.readouterr().err)


def test_missing_file_is_a_usage_error(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["purge", "--file", "/no/such"]) == 2
    assert "/no/such" in capsys.readouterr().err


def test_more_than_10000_targets_become_several_tasks(
    engine: FakeEngine, no_input: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]
) -> None:
    no_input(b"".join(b"http://a/%d\n" % number for number in range(10_001)))
    assert cli.main(["purge", "--id", "big"]) == 0
    assert [(body["id"], len(body["targets"])) for _, _, body in engine.requests] == [
        ("big-1", 10_000),
        ("big-2", 1),
    ]
    assert capsys.readouterr().out == "big-1\taccepted\t10000\nbig-2\taccepted\t1\n"
    assert engine.connections == 1


def test_the_worst_of_several_tasks_is_the_exit_code(
    engine: FakeEngine, no_input: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """A refused task says nothing about the next one; an engine that is away does."""
    no_input(b"http://a/\n" * 25_000)
    accepted: Answer = (202, {"task_id": "ok", "state": "accepted", "total": 1})
    engine.script["POST /v1/engine/task"] = [problem(422, "targets[3]: no"), accepted, b""]
    assert cli.main(["purge"]) == 3
    out, err = capsys.readouterr()
    assert out == "ok\taccepted\t1\n"
    assert "task 1 of 3: targets[3]: no (422)" in err
    assert "task 3 of 3: engine" in err
    engine.script["POST /v1/engine/task"] = [problem(403, "scope submit is missing")]
    no_input(b"http://a/\n" * 25_000)
    assert cli.main(["purge"]) == 2
    assert "scope submit is missing (403); 15000 more targets were not sent" in capsys.readouterr().err


def test_id_too_long_for_a_split_is_a_usage_error(
    engine: FakeEngine, no_input: Callable[[bytes], None]
) -> None:
    no_input(b"http://a/\n" * 10_001)
    assert cli.main(["purge", "--id", "i" * 63]) == 2
    assert not engine.requests


def test_lost_answer_names_the_id_to_repeat(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.script["POST /v1/engine/task"] = [HEAD + b"Content-Length: 90\r\n\r\n{"]
    assert cli.main(["purge", URL, "--id", "x1"]) == 3
    assert "the same command with --id x1 is safe to repeat" in capsys.readouterr().err


def test_busy_then_accepted(
    engine: FakeEngine, naps: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    accepted: Answer = (202, {"task_id": "a", "state": "accepted", "total": 1})
    engine.script["POST /v1/engine/task"] = [problem(503, "saver_backlog is full", Retry_After="2"), accepted]
    assert cli.main(["purge", URL]) == 0
    assert naps == [2]
    out, err = capsys.readouterr()
    assert out == "a\taccepted\t1\n"
    assert "saver_backlog is full (503); attempt 2 of 4 in 2 s" in err
    first, second = engine.requests
    assert first[2] == second[2]


def test_busy_for_ever_is_unreachable(engine: FakeEngine, naps: list[float]) -> None:
    engine.script["POST /v1/engine/task"] = [problem(503, "full", Retry_After="1")]
    assert cli.main(["purge", URL]) == 3
    assert len(naps) == 3


def test_repeated_task_is_reported_as_it_is(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    """The same id again answers 200 with the task; its state is the exit code."""
    engine.script["POST /v1/engine/task"] = [(200, task("a", "partial"))]
    assert cli.main(["purge", URL, "--id", "a"]) == 1
    assert capsys.readouterr().out == "a\tpartial\t6\n"


def test_interrupt_between_tasks_names_all_that_were_sent(
    engine: FakeEngine,
    no_input: Callable[[bytes], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    submit = client.EngineClient.submit

    def interrupt(self: client.EngineClient, body: bytes) -> dict[str, Any]:
        if b'"b-2"' in body:
            raise KeyboardInterrupt
        return submit(self, body)

    monkeypatch.setattr(client.EngineClient, "submit", interrupt)
    no_input(b"http://a/\n" * 20_001)
    assert cli.main(["purge", "--id", "b"]) == 130
    out, err = capsys.readouterr()
    assert out == "b-1\taccepted\t10000\n"
    assert "purgeline watch b-1 b-2\n" in err


def test_closed_standard_input_holds_no_target(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert cli.main(["purge"]) == 2
    assert cli.main(["purge", "-"]) == 2


def test_options_between_urls(engine: FakeEngine) -> None:
    assert cli.main(["purge", "http://a/1", "--soft", "http://a/2", "--layer", "e", "--", "-3"]) == 0
    assert engine.requests[0][2]["targets"] == ["http://a/1", "http://a/2", "-3"]


# --- waiting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "code"), [("done", 0), ("failed", 1), ("partial", 1), ("cancelled", 1)])
def test_wait_ends_with_the_state(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str], state: str, code: int
) -> None:
    errors = [
        {"node": "edge-1", "target": f"{URL}?{number}", "reason": "405 no purge"} for number in range(12)
    ]
    final = task("a", state, failed=30, errors=errors)
    engine.script["GET /v1/engine/task/a"] = [
        (200, task("a", "accepted", layers=[])),
        (200, task("a")),
        (200, final),
    ]
    assert cli.main(["purge", URL, "--id", "a", "--wait"]) == code
    out = capsys.readouterr().out
    assert f"task_id a\naction purge\nkind url\nstate {state}\n" in out
    assert "layer edge total 4 counter 1 failed 0 delayed 1 cancelled 0\n" in out
    assert out.count("error edge-1 ") == 10
    assert "more_errors 20\n" in out


def test_wait_for_several_tasks_adds_their_layers_up(
    engine: FakeEngine, no_input: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]
) -> None:
    no_input(b"http://a/\n" * 10_001)
    for task_id, state in (("b-1", "done"), ("b-2", "failed")):
        engine.script[f"GET /v1/engine/task/{task_id}"] = [(200, task(task_id)), (200, task(task_id, state))]
    assert cli.main(["purge", "--id", "b", "--wait"]) == 1
    out = capsys.readouterr().out
    assert "b-1\tpurge\turl\tdone\t6\t3\t0\t1\t" in out
    assert "layer edge total 8 counter 2 failed 0 delayed 2 cancelled 0\n" in out


def test_watch_and_json(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    for task_id in "ab":
        engine.script[f"GET /v1/engine/task/{task_id}"] = [(200, task(task_id, "done"))]
    assert cli.main(["watch", "a", "b", "--json"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        task("a", "done"),
        task("b", "done"),
    ]


def test_engine_lost_while_waiting_says_how_to_go_on(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.script["GET /v1/engine/task/a"] = [(200, task("a")), b""]
    assert cli.main(["--timeout", "0.1", "purge", URL, "--id", "a", "--wait"]) == 3
    assert "purgeline watch a" in capsys.readouterr().err


def test_interrupt_says_how_to_watch(engine: FakeEngine) -> None:
    """A real SIGINT in the middle of a wait: one line, 130."""
    engine.script["GET /v1/engine/task/a"] = [(200, task("a"))]
    command = [sys.executable, "-m", "engine", "purge", URL, "--id", "a", "--wait"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while len(engine.requests) < 3:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, b"")
    assert err.count(b"\n") == 1
    assert b"goes on in the engine; watch it: purgeline watch a" in err


# --- the other commands ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "code"), [("running", 0), ("accepted", 0), ("done", 0), ("failed", 1), ("partial", 1)]
)
def test_status(engine: FakeEngine, state: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    engine.script["GET /v1/engine/task/t1"] = [(200, task(state=state))]
    assert cli.main(["status", "t1"]) == code
    assert f"state {state}\n" in capsys.readouterr().out
    assert cli.main(["status", "t1", "--json"]) == code
    assert json.loads(capsys.readouterr().out) == task(state=state)


def test_cancel(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.script["DELETE /v1/engine/task/t1"] = [(200, task(state="cancelled"))]
    assert cli.main(["cancel", "t1"]) == 0
    assert "state cancelled\n" in capsys.readouterr().out


def test_tasks(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.script["GET /v1/engine/tasks"] = [(200, {"tasks": [task("a"), task("b")], "cursor": None})]
    assert cli.main(["tasks", "--state", "running", "--limit", "2"]) == 0
    assert engine.requests[0][0] == "GET /v1/engine/tasks?state=running&limit=2"
    line = capsys.readouterr().out.splitlines()[0]
    assert line == "a\tpurge\turl\trunning\t6\t3\t0\t1\t1763935265.25\t-\t-\t-"


def test_nodes_cannot_forge_columns_or_drive_the_terminal(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.script["GET /v1/engine/nodes"] = [(200, {"nodes": [NODE]})]
    assert cli.main(["nodes"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    cells = dict(zip(NODE_COLUMNS, line.split("\t"), strict=True))
    assert cells["last_error"] == r"refused\tby \x1b[31mpeer"
    assert (cells["state"], cells["oldest_delayed_s"]) == ("down", "3.25")
    assert cli.main(["--json", "nodes"]) == 0
    assert json.loads(capsys.readouterr().out) == {"nodes": [NODE]}


def test_stats(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.script["GET /v1/engine/stats"] = [(200, STATS)]
    assert cli.main(["stats"]) == 0
    assert "saver_queue 3\nqps_boss.1m 1.5\nqps_boss.5m 1\n" in capsys.readouterr().out


def test_version_alone_asks_no_engine(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version", "--engine", REFUSED]) == 0
    assert capsys.readouterr().out == f"purgeline {__version__}\n"


def test_version_with_and_without_an_engine(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.script["GET /v1/engine/version"] = [(200, {"version": "9.9", "pid": 1})]
    assert cli.main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["engine"] == {"version": "9.9", "pid": 1}
    assert cli.main(["version", "--engine", REFUSED]) == 3
    out, err = capsys.readouterr()
    assert out.startswith(f"version {__version__}\n")
    assert out.endswith("engine -\n")
    assert "unreachable" in err
    engine.script["GET /v1/engine/version"] = [problem(503, "draining")]
    assert cli.main(["version"]) == 3
    assert "draining (503)" in capsys.readouterr().err
    assert cli.main(["version", "--engine", REFUSED, "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["engine"] is None
    engine.script["GET /v1/engine/version"] = [problem(404, "no such page")]
    assert cli.main(["version"]) == 2


def test_check_config_shows_what_would_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "engine.toml"
    path.write_text(CONFIG, encoding="utf-8")
    assert cli.main(["check-config", str(path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "listen 127.0.0.1:9999\nstore sqlite:\nlayers parent,edge\nnode parent-1 parent ats "
    )
    assert "hush" not in out
    assert cli.main(["check-config", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["nodes"][1]["parents"] == ["parent-1"]


def served_until(text: bytes, path: Path) -> subprocess.CompletedProcess[bytes]:
    """Run an engine until it has said *text*, and end it."""
    command = [sys.executable, "-m", "engine", "serve", "--config", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        said = b""
        while text not in said and (line := process.stderr.readline()):
            said += line
        process.terminate()
        out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(command, process.returncode, out, said + err)


def test_the_password_of_redis_is_shown_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither by a check, nor by an engine that cannot reach its Redis, nor by a migration."""

    def here(*argv: str) -> tuple[int, str]:
        code = cli.main(argv)
        return code, "".join(capsys.readouterr())

    path = tmp_path / "engine.toml"
    url = "redis://me:hush@127.0.0.1:1/0"
    keys = f'listen = "127.0.0.1:0"\ndata_dir = "{tmp_path}"\n'
    path.write_text(f'[engine]\n{keys}[store]\nurl = "{url}"\ntimeout_s = 0.1\n', encoding="utf-8")
    told = [
        here("check-config", str(path)),
        here("check-config", str(path), "--json"),
        here("migrate", "--config", str(path), "--from", url.replace("/0", "/x"), "--to", "sqlite:"),
        here("migrate", "--config", str(path), "--from", "sqlite:", "--to", url),
    ]
    served = served_until(b'"alert":"store"', path)
    told.append((served.returncode, (served.stdout + served.stderr).decode()))
    assert [code for code, _ in told] == [0, 0, 2, 1, 0]
    assert all("127.0.0.1:1" in text for code, text in told if code != 1)
    assert not any("hush" in text for _, text in told)


def test_check_config_warns_of_what_is_ignored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "engine.toml"
    path.write_text("[engine]\nattempts_max = 3\n", encoding="utf-8")
    assert cli.main(["check-config", str(path)]) == 0
    assert "warning: engine.attempts_max is ignored" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "warns"),
    [("", False), ("history_days = 1", True), ("history_days = 7", False), ("history_days = 0", False)],
)
def test_check_config_warns_of_a_history_shorter_than_delay_queues(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: str, *, warns: bool
) -> None:
    """Where somebody has set them: of what fails so late a retry may not know all."""
    path = tmp_path / "engine.toml"
    path.write_text(f"[engine]\n{settings}\n", encoding="utf-8")
    assert cli.main(["check-config", str(path)]) == 0
    assert ("history_days = 7 keeps it" in capsys.readouterr().err) == warns


def test_bad_config_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "engine.toml"
    path.write_text("[engine]\nlisen = 1\n", encoding="utf-8")
    for command in (
        ["check-config", str(path)],
        ["serve", "--config", str(path)],
        ["check-config", "/no/such"],
    ):
        assert cli.main(command) == 2
    err = capsys.readouterr().err
    assert "did you mean 'listen'?" in err
    assert "/no/such" in err


def test_serve_runs_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The configuration is handed on, the result is the exit code, an error is one line."""
    import engine.process  # noqa: PLC0415 - its attribute is replaced

    path = tmp_path / "engine.toml"
    path.write_text(CONFIG, encoding="utf-8")
    calls: list[str] = []

    def start(config: Any) -> int:
        calls.append(config.engine.listen)
        if len(calls) == 2:
            raise StoreError("var/tasks.db: disk is full")
        return 0

    process = types.ModuleType("engine.process.single")
    process.run = start  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "engine.process.single", process)
    monkeypatch.setattr(engine.process, "single", process, raising=False)
    assert cli.main(["serve", "--config", str(path)]) == 0
    assert cli.main(["serve", "--config", str(path)]) == 1
    assert calls == ["127.0.0.1:9999"] * 2
    assert capsys.readouterr().err == "purgeline: var/tasks.db: disk is full\n"


# --- what goes wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code"), [(400, 2), (401, 2), (403, 2), (404, 2), (409, 2), (422, 2), (500, 1), (504, 3)]
)
def test_problem_text_is_shown(
    engine: FakeEngine, status: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    detail = "targets[0]: host 'x' is outside [[site]]"
    engine.script["POST /v1/engine/task"] = [problem(status, detail)]
    assert cli.main(["purge", URL]) == code
    assert capsys.readouterr() == ("", f"purgeline: {detail} ({status})\n")
    assert cli.main(["purge", URL, "--json"]) == code
    assert json.loads(capsys.readouterr().err) == {
        "error": f"{detail} ({status})",
        "status": status,
        "exit_code": code,
    }


@pytest.mark.parametrize(
    "command", [["purge", URL], ["status", "a"], ["watch", "a"], ["cancel", "a"], ["tasks"], ["nodes"]]
)
@pytest.mark.parametrize("as_json", [False, True])
def test_connection_refused(
    command: Sequence[str], as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*command, "--engine", REFUSED, *(["--json"] if as_json else [])]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert f"engine {REFUSED} unreachable: Connection refused" in err
    assert err.count("\n") == 1


def test_garbage_answer(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.script["GET /v1/engine/stats"] = [b"220 smtp ready\r\n"]
    assert cli.main(["stats"]) == 3
    assert "does not speak HTTP" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [
        *([], ["flush"], ["purge", URL, "--nope"], ["purge", "--prefix", "--regex", "x"], ["status"]),
        *(["status", "a b"], ["status", "a", "b"], ["tasks", "--limit", "0"], ["tasks", "--state", "lost"]),
        *(
            ["purge", URL, "--due", "nan"],
            ["purge", URL, "--due", "-1"],
            ["purge", URL, "--id", "a/b"],
        ),
        *(["purge", "\udcff"], ["purge", URL, "--layer", "\udcff"], ["status", "a", "--", "b"]),
        *(["stats", "--engine", "ftp://x"], ["stats", "--token", "a\nb"], ["stats", "--timeout", "0"]),
    ],
)
def test_usage_errors(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err


def test_unforeseen_errors_are_one_line(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: client.EngineClient) -> None:
        raise TypeError("not today")

    monkeypatch.setattr(client.EngineClient, "stats", fail)
    monkeypatch.setattr(sys, "flags", types.SimpleNamespace(dev_mode=False))
    assert cli.main(["stats"]) == 1
    assert capsys.readouterr().err == "purgeline: internal error: TypeError: not today\n"


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_of_every_command(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*command, "--help"]) == 0
    out = capsys.readouterr().out
    assert " ".join(["usage: purgeline", *command]) in out
    for option in ("--engine", "--token", "--json", "--timeout", "PURGELINE_TOKEN"):
        assert option in out


def test_options_stand_before_and_after_the_command(engine: FakeEngine) -> None:
    engine.script["GET /v1/engine/stats"] = [(200, {})]
    assert cli.main(["--engine", engine.url, "--token", "t1", "stats"]) == 0
    assert cli.main(["--engine", REFUSED, "stats", "--engine", engine.url, "--token", "t2"]) == 0
    assert [headers["Authorization"] for _, headers, _ in engine.requests] == ["Bearer t1", "Bearer t2"]


# --- as a process ----------------------------------------------------------------------------------


def test_process_reads_standard_input(engine: FakeEngine) -> None:
    result = run("purge", stdin=b"http://a/1\nhttp://a/2\n")
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.endswith(b"\taccepted\t2\n")


def test_a_wait_in_a_pipe_says_what_it_waits_for(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On standard error; standard output stays what it was, and with --json nothing is said."""
    monkeypatch.setattr("engine.cli.waiting.TOLD_FIRST_S", 0)
    errors = [{"node": "edge-1", "target": URL, "reason": "unreachable: gone"}]
    for words, said in ([], 1), (["--json"], 0):
        engine.script["GET /v1/engine/task/a"] = [(200, task("a", errors=errors)), (200, task("a", "done"))]
        assert cli.main(["watch", "a", *words]) == 0
        out, err = capsys.readouterr()
        assert "waiting" not in out
        assert err.count("\n") == said
        assert (
            "waiting for the task: 3 of 6 subtasks settled, at work: edge, 1 delayed: edge-1" in err
        ) == said


def test_what_no_cache_had_is_the_last_word_of_a_wait(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.script["GET /v1/engine/task/a"] = [(200, task("a", "done", counter=6, absent=6))]
    assert cli.main(["purge", URL, "--id", "a", "--wait"]) == 0
    out, err = capsys.readouterr()
    assert "absent 6\n" in out
    assert err == (
        "purgeline: nothing was dropped: none of the caches had it (6 of 6 acked subtasks absent)\n"
    )
    engine.script["GET /v1/engine/tasks"] = [(200, {"tasks": [task("a", absent=3)], "cursor": None})]
    assert cli.main(["tasks"]) == 0
    assert capsys.readouterr().out.endswith("\t-\t3\t-\n")


def test_what_visits_came_to_is_the_last_word_of_a_wait(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    verify = {"mode": "all", "checked": 2, "verified": 1, "stale": 1, "unverifiable": 0, "rules": {"etag": 2}}
    document = task("a", "failed", counter=6, absent=1, verify={**verify, "note": "", "reasons": []})
    engine.script["GET /v1/engine/task/a"] = [(200, document)]
    assert cli.main(["purge", URL, "--id", "a", "--verify", "all", "--wait"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "purgeline: verification: 1 verified, 1 stale, 0 unverifiable, decided by etag (2)"
    )


def test_pipe_has_no_colours_and_imports_no_rich(engine: FakeEngine) -> None:
    """Even when a variable asks for colours: programs read pipes."""
    engine.script["GET /v1/engine/nodes"] = [(200, {"nodes": [NODE]})]
    environ = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm"}
    command = [sys.executable, "-X", "importtime", "-m", "engine", "nodes"]
    result = subprocess.run(command, capture_output=True, cwd=ROOT, env=environ, check=False, timeout=60)
    assert result.returncode == 0
    assert b"\x1b" not in result.stdout
    imported = set(re.findall(rb"(\w+)[\w.]*$", result.stderr, re.MULTILINE))
    assert not imported & {b"rich", b"aiohttp", b"msgspec", b"asyncio", b"jinja2", b"inspect"}


def test_terminal_gets_a_table(engine: FakeEngine) -> None:
    engine.script["GET /v1/engine/nodes"] = [(200, {"nodes": [NODE]})]
    code, shown = run_in_terminal("nodes")
    assert code == 0
    assert "─" in shown
    assert "\x1b[31mdown" in shown  # the state's colour
    assert "\x1b[31mpeer" not in shown  # and not the cache's
    code, shown = run_in_terminal("nodes", "--json")
    assert json.loads(shown) == {"nodes": [NODE]}


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_word_is_broken_in_a_terminal_of_any_width(engine: FakeEngine, width: int) -> None:
    """Columns that have no room are named, and what is wider than any table is shown in lines."""
    said = "refused: answered 405: let PURGE in from this engine (ACL, method) on edge-frankfurt-2"
    note = "of a response with Vary only the variant that the node's own headers ask for is sure to go"
    nodes = [
        {**NODE, "name": name, "layer": "parent", "evidence": "mark", "notes": [note], "last_error": said}
        for name in ("edge-frankfurt-2", "edge-amsterdam-3")
    ]
    errors = [{"node": "edge-frankfurt-2", "target": "http://img.example.com/a.jpg", "reason": said}]
    skipped = [{"name": "edge-3", "reason": "squid, as configured, cannot purge by prefix"}]
    tasks = [task("f" * 32, "cancelled"), task("release-42", "partial", errors=errors, skipped=skipped)]
    engine.script["GET /v1/engine/nodes"] = [(200, {"nodes": nodes})]
    engine.script["GET /v1/engine/tasks"] = [(200, {"tasks": tasks, "cursor": None})]
    engine.script["GET /v1/engine/task/release-42"] = [(200, tasks[1])]
    said_besides = "no room for json has them errors notes nodes note layers skipped absent"
    known = set(re.findall("[A-Za-z]+", json.dumps([nodes, tasks]) + said_besides))
    for command in (["nodes"], ["tasks"], ["status", "release-42"]):
        _, shown = run_in_terminal(*command, width=width)
        text = re.sub(r"\x1b\[[\d;]*m", "", shown)
        assert max(map(len, text.splitlines())) <= width
        assert set(re.findall("[A-Za-z]+", text)) <= known, (command, text)


def test_terminal_gets_no_table_of_nothing_when_a_task_is_refused(engine: FakeEngine) -> None:
    engine.script["POST /v1/engine/task"] = [problem(422, "outside the sites")]
    assert run_in_terminal("purge", URL) == (2, "purgeline: outside the sites (422)\r\n")


def test_terminal_without_rich_gets_the_lines_of_a_pipe(engine: FakeEngine) -> None:
    """`pip install purgeline` brings no rich: it is the extra ``terminal``."""
    engine.script["GET /v1/engine/nodes"] = [(200, {"nodes": [NODE]})] * 2
    hidden = "import runpy, sys; sys.modules['rich'] = None; runpy.run_module('engine', run_name='__main__')"
    plain = run("nodes").stdout.decode()
    assert run_in_terminal("nodes", program=("-c", hidden)) == (0, plain.replace("\n", "\r\n"))


def test_terminal_gets_a_progress_bar(engine: FakeEngine) -> None:
    running: list[Answer] = [(200, task("a"))] * 8
    errors = [{"node": "edge-1", "target": URL, "reason": "[red]405"}]
    engine.script["GET /v1/engine/task/a"] = [*running, (200, task("a", "failed", failed=1, errors=errors))]
    code, shown = run_in_terminal("watch", "a")
    assert code == 1
    assert "━" in shown
    assert re.search(r"edge.*1/4.*settled, 1 delayed", shown)
    assert "[red]405" in shown
    assert "layers" in shown


def test_reader_that_leaves_is_quiet(engine: FakeEngine) -> None:
    """`purgeline tasks | head -1`: no traceback, and the exit code is the command's."""
    rows = [task(f"t{number}") for number in range(1000)]
    engine.script["GET /v1/engine/tasks"] = [(200, {"tasks": rows, "cursor": None})]
    script = f"{sys.executable} -m engine tasks --limit 1000 | head -1; echo ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", script], capture_output=True, cwd=ROOT, check=False, timeout=60)
    assert result.stderr == b""
    assert result.stdout.splitlines()[0].startswith(b"t0\t")
    assert result.stdout.splitlines()[1] == b"0"


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
def test_output_that_cannot_be_written(engine: FakeEngine, redirection: str) -> None:
    engine.script["GET /v1/engine/stats"] = [(200, STATS)]
    script = f"{sys.executable} -m engine stats {redirection}"
    result = subprocess.run(["bash", "-c", script], capture_output=True, cwd=ROOT, check=False, timeout=60)
    assert b"Traceback" not in result.stderr
    assert result.returncode == (1 if "full" in redirection else 0)
    assert result.stderr.count(b"\n") == (1 if "full" in redirection else 0)


def test_output_that_the_encoding_lacks_is_escaped(engine: FakeEngine) -> None:
    engine.script["GET /v1/engine/task/a"] = [(200, task("a", kind="é"))]
    result = run("status", "a", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"kind \\xe9\n" in result.stdout


def test_interrupt_in_a_terminal_leaves_it_usable(engine: FakeEngine) -> None:
    """The cursor is shown again, and the line says how to go on."""
    engine.script["GET /v1/engine/task/a"] = [(200, task("a"))]
    code, shown = run_in_terminal("watch", "a", until=lambda shown: "━" in shown)
    assert code == 130
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert "purgeline watch a" in shown


def test_process_without_an_engine_exits_3() -> None:
    result = run("stats", "--engine", REFUSED)
    assert (result.returncode, result.stdout) == (3, b"")
    assert b"Traceback" not in result.stderr
