"""release.agent.doctor: a host's release looks at it; release.rollout.doctor, which asks all hosts."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from release.hosts.target import Wanted
from release.rollout.doctor import doctor
from release.settings import Settings
from release.show.screen import Screen
from tests.rigs.host_calls import HostCalls, Refusal

VERSION = "1.0"
CONFIG = '[engine]\nlisten = "127.0.0.1:1"\n[[layer]]\nname = "edge"\n'
AWAY = '[[node]]\nname = "edge-1"\ndriver = "ats"\nurl = "http://127.0.0.1:1"\n'


@pytest.fixture
def host(tmp_path: Path) -> HostCalls:
    """A host whose current release is this tree."""
    calls = HostCalls(tmp_path / "root")
    release = calls.root / "releases" / VERSION
    release.mkdir(parents=True)
    (release / ".verified").write_text(json.dumps({"version": VERSION, "files": {}}))
    (release / "venv").symlink_to(sys.prefix)
    (calls.root / "current").symlink_to(f"releases/{VERSION}")
    (calls.root / "shared/var").mkdir(parents=True)
    (calls.root / "shared/engine.toml").write_text(CONFIG)
    return calls


def asked(host: HostCalls, capsys: pytest.CaptureFixture[str], *, is_json: bool = False) -> tuple[int, str]:
    """Return exit code and output of the task on this machine."""
    wanted = Wanted(hosts=["local"], root=str(host.root))
    code = doctor(wanted, Settings(), Screen(is_json=is_json))
    return code, capsys.readouterr().out


def test_the_task_shows_what_is_not_well_the_worst_first(
    host: HostCalls, capsys: pytest.CaptureFixture[str]
) -> None:
    (host.root / "shared/engine.toml").write_text(CONFIG + AWAY)
    code, shown = asked(host, capsys)
    lines = shown.splitlines()
    assert code == 1
    assert lines[0].split()[:3] == ["host", "check", "verdict"]
    assert lines[1].split()[:5] == ["local", "all", "fail", "2", "fail,"]
    assert [line.split()[1] for line in lines[2:4]] == ["nodes", "node"]
    assert "unreachable (limit: proven): cannot be reached" in lines[3]
    assert "start the cache" in lines[3]


def test_the_task_is_content_where_nothing_fails(host: HostCalls, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder of the store is looked for where the release works."""
    code, text = asked(host, capsys, is_json=True)
    document: dict[str, Any] = json.loads(text)
    [found] = document["hosts"]
    rows = {check["name"]: check for check in found["answer"]["checks"]}
    failing = {name for name, row in rows.items() if row["verdict"] == "fail"}
    assert failing <= {"fsync"}  # as busy as the disk of this machine is
    assert (code, found["ok"]) == (len(failing), True)
    assert rows["fsync"]["value"]
    assert rows["engine"]["verdict"] == "not known"
    (host.root / "current").unlink()
    code, shown = asked(host, capsys)
    assert (code, shown.split()[-3:]) == (1, ["no", "release", "yet"])


def test_a_host_that_has_no_doctor_says_why(host: HostCalls) -> None:
    """A wrong configuration, a release of before, and one that says nothing."""
    (host.root / "shared/engine.toml").write_text("[engine]\nlistn = 1\n")
    assert "unknown key 'listn'" in refused(host)
    python = host.root / "releases" / VERSION / "venv"
    python.unlink()
    (python / "bin").mkdir(parents=True)
    for said, why in (
        ("echo \"error: argument COMMAND: invalid choice: 'doctor'\" >&2; exit 2", "has no doctor yet"),
        ("echo nothing", "nothing of this host that could be read"),
        ("exec kill -9 $$", "look at this host"),
    ):
        (python / "bin/python").write_text(f"#!/bin/sh\n{said}\n")
        (python / "bin/python").chmod(0o755)
        assert why in refused(host)


def refused(host: HostCalls) -> str:
    with pytest.raises(Refusal) as caught:
        host.call("doctor")
    return caught.value.error
