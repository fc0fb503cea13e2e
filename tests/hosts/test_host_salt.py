"""release.agent.salt as a process, with a fake ``salt-call``: what it answers when something is wrong."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from release.hosts.remote import AGENT
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ARGV = ["/usr/bin/python3", "-I", "-B", str(AGENT)]
GOOD = json.dumps({"local": {"file_|-a_|-/n_|-managed": {"result": True, "__id__": "a", "__run_num__": 0}}})


class Rig:
    """A root, and a ``salt-call`` that does as it is told."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "srv"
        self.program = folder / "salt-call"
        self.set("true")

    def set(self, *lines: str, text: str = GOOD) -> None:
        script = ["#!/bin/sh", *lines, f"cat <<'EOF'\n{text}\nEOF"]
        self.program.write_text("\n".join(script) + "\n")
        self.program.chmod(0o755)

    def request(self, **changes: Any) -> str:
        request = {
            "root": str(self.root),
            "id": "cdn-1",
            "files": {"salt/top.sls": "t", "pillar/top.sls": "p"},
            "grains": {"purgeline": {}},
            "pillar": {"engine": {}},
            "states": "",
            "test": True,
            "salt_call": str(self.program),
        }
        return json.dumps({**request, **changes})

    def run(self, *, text: str | None = None, **changes: Any) -> dict[str, Any]:
        line = self.request(**changes) if text is None else text
        done = subprocess.run(
            [*ARGV, "apply"], input=line, capture_output=True, text=True, check=False, timeout=30
        )
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        assert done.returncode == (0 if answer["ok"] else 1)
        assert done.stderr == ""
        return answer


def test_states_are_not_applied_where_somebody_holds_the_lock(rig: Rig) -> None:
    """What would change may be asked for; and the holder's own run has the token."""
    rig.root.mkdir()
    holder = {"token": "a", "who": "ann", "where": "ci-1", "why": "a fair", "ttl_s": 0}
    (rig.root / "lock").write_text(json.dumps(holder))
    answer = rig.run(test=False)
    assert answer["kind"] == "locked"
    assert answer["error"].startswith("locked by ann on ci-1")
    assert rig.run(test=False, token="b")["kind"] == "lost"
    assert rig.run(test=False, token="a")["ok"]
    assert rig.run(test=True)["ok"]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_salt_is_called_in_a_folder_that_nobody_else_reads(rig: Rig) -> None:
    seen = rig.program.parent / "seen"
    rig.set(f'echo "$@" >{seen}', f'stat -c %a "$3" >>{seen}', f'cat "$3/minion" >>{seen}')
    answer = rig.run(states="engine.clean")
    assert answer["ok"]
    assert [state["id"] for state in answer["states"]] == ["a"]
    arguments, mode, minion = seen.read_text().splitlines()
    assert arguments.startswith(f"--local -c {rig.root}/cache/salt-")
    assert 'state.apply engine.clean test=True pillar={"engine": {}}' in arguments
    assert mode == "700"
    folder = arguments.split()[2]
    assert json.loads(minion)["file_roots"] == {"base": [f"{folder}/salt", f"{folder}/templates"]}
    assert json.loads(minion)["root_dir"] == f"{folder}/run"
    assert [path.name for path in (rig.root / "cache").iterdir()] == ["salt.lock"]


def test_failed_states_are_named(rig: Rig) -> None:
    rig.set(text=GOOD.replace("true", "false"))
    answer = rig.run()
    assert (answer["kind"], answer["error"]) == ("states", "1 of 1 states failed: a")
    assert answer["states"][0]["result"] is False


def test_states_that_cannot_be_rendered_say_why(rig: Rig) -> None:
    rig.set(text=json.dumps({"local": ["Rendering SLS 'base:engine' failed: no config"]}))
    answer = rig.run()
    assert answer["kind"] == "render"
    assert "no config" in answer["error"]


def test_no_result_is_an_error_with_the_last_lines(rig: Rig) -> None:
    rig.set("echo first >&2", "echo disk is full >&2", "exit 3")
    answer = rig.run()
    assert answer["error"].endswith("ended with 3 and no result: disk is full")
    assert answer["log"] == ["first", "disk is full"]


def test_no_salt_says_how_to_name_it(rig: Rig) -> None:
    answer = rig.run(salt_call="/nowhere/salt-call")
    assert answer["kind"] == "no-salt"
    assert answer["error"].startswith("/nowhere/salt-call is not there: install Salt")


def test_a_second_run_at_the_same_time_is_refused(rig: Rig) -> None:
    assert rig.run()["ok"]
    with (rig.root / "cache/salt.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert rig.run()["kind"] == "locked"


def test_what_a_killed_run_left_is_removed_by_the_next(rig: Rig) -> None:
    left = rig.root / "cache/salt-killed/pillar"
    left.mkdir(parents=True)
    (left / "secret").write_text("s")
    assert rig.run()["ok"]
    assert not left.parent.exists()


def test_a_run_that_is_ended_removes_its_folder(rig: Rig) -> None:
    rig.set("exec sleep 60")
    process = subprocess.Popen([*ARGV, "apply"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    process.stdin.write(rig.request())
    process.stdin.close()
    wait_until(lambda: list((rig.root / "cache").glob("salt-*/minion")), what="the folder")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 1
    assert not list((rig.root / "cache").glob("salt-*"))
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"text": "no JSON"}, "request cannot be used"),
        ({"text": "{}"}, "request cannot be used: KeyError('root')"),
        ({"files": {"../../etc/passwd": "x"}}, "is not a path below a folder"),
        ({"files": {"/etc/passwd": "x"}}, "is not a path below a folder"),
        ({"root": "/proc/nowhere"}, "/proc/nowhere"),
    ],
)
def test_a_request_that_cannot_be_used_is_refused(rig: Rig, arguments: dict[str, Any], reason: str) -> None:
    assert reason in rig.run(**arguments)["error"]


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that another account can reach, which pytest's are not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another account")
@pytest.mark.parametrize("has_sudo", [True, False])
def test_a_login_that_is_not_root_needs_sudo(shared_folder: Path, *, has_sudo: bool) -> None:
    """The fake ``sudo`` notes what it was asked for and runs it as it is."""
    rig = Rig(shared_folder)
    rig.root.mkdir()
    shutil.chown(rig.root, 65534)
    agent = shutil.copytree(AGENT, shared_folder / "agent")
    programs = shared_folder / "bin"
    programs.mkdir()
    for name in ("cat", "rm", "sh"):
        (programs / name).symlink_to(shutil.which(name) or name)
    if has_sudo:
        (programs / "sudo").write_text(
            f'#!/bin/sh\necho sudo "$@" >>{rig.root}/asked\n[ "$1" = -n ] && shift\nexec "$@"\n'
        )
        (programs / "sudo").chmod(0o755)
    command = [
        "/usr/bin/setpriv",
        "--reuid=65534",
        "--clear-groups",
        "/usr/bin/python3",
        "-I",
        "-B",
        str(agent),
        "apply",
    ]
    done = subprocess.run(
        command,
        input=rig.request(),
        env={"PATH": str(programs)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    answer = json.loads(done.stdout.splitlines()[-1])
    if has_sudo:
        assert answer["ok"], answer
        first, last = (rig.root / "asked").read_text().splitlines()
        assert first.startswith(f"sudo -n {rig.program} --local -c {rig.root}/cache/salt-")
        assert last.startswith(f"sudo -n rm -rf -- {rig.root}/cache/salt-")
    else:
        assert (answer["ok"], answer["kind"]) == (False, "rights")
        assert answer["error"] == "states are applied by root: log in as root, or install sudo"
