"""release.agent: what it is asked, by which Python, and whose the deploy lock is."""

import ast
import fcntl
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.rigs.host_calls import AGENT, HostCalls, Refusal

OLDEST = (3, 8)
STANDARD = {"__future__", *sys.stdlib_module_names}
OPTIONAL = {"cryptography"}


@pytest.fixture
def host(tmp_path: Path) -> HostCalls:
    return HostCalls(tmp_path / "root")


def answer(*command: str, text: str = "{}") -> tuple[int, dict[str, Any]]:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=20)
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    return done.returncode, json.loads(line)


def test_it_is_read_by_old_pythons_and_needs_nothing_but_python() -> None:
    names = set()
    for module in AGENT.iterdir():
        if module.suffix == ".py":
            names |= imported(ast.parse(module.read_text(encoding="utf-8"), feature_version=OLDEST))
    assert names - STANDARD <= OPTIONAL


def imported(tree: ast.Module) -> set[str]:
    """Return the top packages that a module imports, those of its own package left out."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(str(node.module).split(".")[0])
    return names


def test_an_old_python_says_which_one_is_needed() -> None:
    """Nothing of an installation is looked at."""
    code = "import runpy, sys; from collections import namedtuple; "
    code += "sys.version_info = (3, 8, 18, 'final', 0); sys.argv = ['agent', 'facts']; "
    code += f"runpy.run_path({str(AGENT)!r}, run_name='__main__')"
    exit_code, said = answer(sys.executable, "-I", "-c", code)
    assert (exit_code, said["ok"], said["kind"]) == (1, False, "python")
    assert said["error"] == "this host has Python 3.8; 3.11 or newer is needed"


@pytest.mark.parametrize(
    ("op", "request_", "why"),
    [
        ("facts", {"root": None}, "facts: root is missing"),
        ("facts", {"root": 7}, "facts: root: takes text, not 7"),
        ("facts", {"root": "srv"}, "takes an absolute path, not 'srv'"),
        ("unpack", {"version": "1.0"}, "unpack: file is missing"),
        ("reload", {"version": 1.0}, "version: takes text, not 1.0"),
        ("reload", {"version": "../../etc"}, "is no version"),
        ("reload", {"version": "1/2"}, "is no version"),
        ("reload", {"version": "1..2"}, "is no version"),
        ("reload", {"version": "1", "workers": True}, "workers: takes a number, not True"),
        ("reload", {"version": "1", "bake_s": "5"}, "bake_s: takes seconds, not '5'"),
        ("reload", {"version": "1", "service": "upstart"}, "service: takes auto, systemd or direct"),
        ("append", {"entry": []}, "entry: takes an object"),
        ("lock", {"token": "a", "ttl_s": "1"}, "ttl_s: takes seconds"),
        ("prune", {"keep": 1.5}, "keep: takes a number"),
        ("prune", {"keep": 0}, "keep: takes a number from 1"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, op: str, request_: dict[str, Any], why: str) -> None:
    text = json.dumps({"root": str(tmp_path / "root"), **request_})
    exit_code, said = answer(sys.executable, "-I", "-B", str(AGENT), op, text=text)
    assert (exit_code, said["ok"], said["kind"]) == (2, False, "input")
    assert why in said["error"]


def test_a_folder_of_others_is_told_as_such() -> None:
    """Not as an empty one, or one where nothing runs."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        agent = str(shutil.copytree(AGENT, folder / "agent"))
        root = folder / "closed/root"
        (root / "shared/run").mkdir(parents=True)
        (folder / "closed").chmod(0o700)
        # An account that may enter neither that folder nor those of this test's own Python.
        python = shutil.which("python3", path="/usr/bin") or sys.executable
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", python, "-I", agent]
        code, said = answer(*command, "prune", text=json.dumps({"root": str(root), "keep": 1}))
    assert (code, said["kind"]) == (1, "permission")


UNPACK = {"file": "/x", "sha256": "", "size": 1, "version": "1", "envelope": "", "trusted_keys": []}


def test_a_change_for_a_run_that_lost_its_lock_is_refused(host: HostCalls) -> None:
    """Also when nobody has it; and without a token when somebody has it."""
    mine = {"token": "a", "who": "ann", "where": "ci-1", "why": "deploy 1.0", "ttl_s": 60}
    with pytest.raises(Refusal, match="the lock is not ours any more"):
        host.call("prune", keep=1, token="a")
    host.call("lock", **mine)
    assert host.call("prune", keep=1, token="a")["removed"] == []
    changes: dict[str, dict[str, Any]] = {
        "stop": {},
        "reload": {"version": "1"},
        "prune": {"keep": 1},
        "unpack": UNPACK,
    }
    for op, request in changes.items():
        with pytest.raises(Refusal, match=r"^locked: locked by ann on ci-1 .* \(deploy 1.0\)"):
            host.call(op, **request)
    host.call("unlock", force=True, why="a test")
    assert host.call("prune", keep=1)["removed"] == []
    host.call("lock", **{**mine, "token": "b", "who": "bob"})
    for op, request in changes.items():
        with pytest.raises(Refusal, match="not ours any more: locked by bob on ci-1") as caught:
            host.call(op, token="a", **request)
        assert caught.value.kind == "lost"


def test_what_is_read_changes_nothing(host: HostCalls) -> None:
    """Not even a folder is made."""
    for op in ("facts", "status", "history"):
        host.call(op)
    for op, request in (("previous", {}), ("verify", {"version": "1"})):
        with pytest.raises(Refusal):
            host.call(op, **request)
    assert not host.root.exists()


def test_an_operation_that_does_not_end_keeps_others_out_and_is_told_of(host: HostCalls) -> None:
    host.call("prune", keep=1)
    with (host.root / ".op.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        began = time.monotonic()
        with pytest.raises(Refusal, match="another operation is under way on this host") as caught:
            host.call("prune", keep=1)
        assert caught.value.kind == "busy"
        assert time.monotonic() - began < 20
        assert host.call("status")["state"] == "stopped"
    assert host.call("prune", keep=1)["removed"] == []
