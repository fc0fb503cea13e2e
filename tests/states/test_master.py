"""A Salt master with two minions, on machines of their own with one loopback: both there, and one stopped."""

from __future__ import annotations

import contextlib
import json
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from release.settings import ROOT
from tests.rigs.machine import Machine, kill, make_certificate
from tests.rigs.states_on_machine import PYTHON, example_pillar
from tests.waiting import wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ("cdn-1", "cdn-2")
COMMON = {
    "log_level_logfile": "quiet",
    "log_level": "error",
    "enable_gpu_grains": False,
    "enable_fqdns_grains": False,
}
PROGRAM = """
import json, sys
from pathlib import Path
from release.states.program import SaltOptions, run
folder = Path(sys.argv[1])
sys.exit(run(SaltOptions(**json.loads(sys.argv[2])), folder=folder))
"""


@dataclass
class Site:
    """The master's machine, and those of the minions with their processes."""

    master: Machine
    program: str  #: how ``salt`` is called
    minions: dict[str, tuple[Machine, subprocess.Popen[bytes]]]

    def __post_init__(self) -> None:
        self._call_with("--timeout=120")

    def _call_with(self, options: str) -> None:
        (self.master.folder / "release.toml").write_text(f'salt_master = "{self.program} {options}"\n')

    @contextlib.contextmanager
    def called_with(self, options: str) -> Iterator[None]:
        """Have ``salt`` called with options; else it waits long before it asks minions how far they are."""
        self._call_with(options)
        try:
            yield
        finally:
            self._call_with("--timeout=120")

    def salt(self, **wanted: Any) -> tuple[int, dict[str, Any]]:
        """Run the task with --master --json; return its exit code and what it printed."""
        arguments = json.dumps({"is_master": True, "is_json": True, **wanted})
        folder = str(self.master.folder)
        done = self.master.run(PYTHON, "-c", PROGRAM, folder, arguments, check=False, timeout_s=240)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def stop(self, name: str) -> None:
        _, process = self.minions[name]
        kill(process)


@pytest.fixture(scope="module")
def site(machine: Machine, salt_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = machine.folder
    _write(folder / "pillar/top.sls", {"base": {"*": ["hosts"]}})
    _write(folder / "pillar/hosts.sls", example_pillar())
    master = {
        **COMMON,
        "interface": "127.0.0.1",
        "auto_accept": True,
        "worker_threads": 3,
        "file_roots": {"base": [str(ROOT / "salt"), str(ROOT / "templates")]},
        "pillar_roots": {"base": [str(folder / "pillar")]},
        "gather_job_timeout": 2,
    }
    (folder / "hosts.toml").write_text("".join(f'[[hosts]]\nname = "{name}"\n' for name in NAMES))
    call = f"{salt_programs / 'salt'} -c {folder / 'etc-salt'}"
    with contextlib.ExitStack() as stack:
        # Salt's sockets are in there, and pytest's paths may be too long for the address of one
        root = stack.enter_context(tempfile.TemporaryDirectory(prefix="salt-"))
        _write(folder / "etc-salt/master", {**master, "root_dir": f"{root}/master"})
        stack.enter_context(_running(machine, str(salt_programs / "salt-master"), folder / "etc-salt"))
        minions = {}
        for name in NAMES:
            own = stack.enter_context(Machine(tmp_path_factory.mktemp(name), net_of=machine))
            make_certificate(own)
            config = {**COMMON, "id": name, "master": "127.0.0.1", "root_dir": f"{root}/{name}"}
            config["log_level"] = "info"  # says when it is ready
            _write(own.folder / "etc-salt/minion", config)
            process = _running(own, str(salt_programs / "salt-minion"), own.folder / "etc-salt")
            minions[name] = (own, stack.enter_context(process))
        logs = [own.folder / "log" for own, _ in minions.values()]
        wait_until(
            lambda: all("ready to receive requests" in log.read_text() for log in logs),
            timeout_s=120,
            what="minions that have come to their master",
        )
        ping = [*call.split(), "--out=json", "--timeout=15", "*", "test.ping"]
        wait_until(
            lambda: machine.run(*ping, check=False).stdout.count(": true") == len(NAMES),
            timeout_s=120,
            what="minions that answer",
        )
        yield Site(machine, call, minions)


@contextlib.contextmanager
def _running(machine: Machine, program: str, config: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = machine.start(program, "-c", str(config), log=machine.folder / "log")
    try:
        yield process
    finally:
        kill(process)


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


@dataclass(frozen=True)
class First:
    """What the first two runs did: one shows what would change on a minion, one changes both."""

    diff: tuple[int, dict[str, Any]]
    made_by_diff: list[str]  #: minions on which the diff made something
    done: tuple[int, dict[str, Any]]


@pytest.fixture(scope="module")
def first(site: Site) -> First:
    """Bring both minions into the state; a minion that a test stops later is not needed any more."""
    diff = site.salt(is_test=True, hosts=["cdn-1"])
    made = [name for name, (machine, _) in site.minions.items() if machine.has("/srv/purgeline/shared")]
    return First(diff, made, site.salt())


@pytest.mark.slow
def test_a_diff_of_a_minion_changes_nothing(first: First) -> None:
    code, answer = first.diff
    assert code == 0, answer
    assert first.made_by_diff == []


@pytest.mark.slow
def test_both_minions_are_brought_into_the_state(first: First, site: Site) -> None:
    code, answer = first.done
    assert code == 0, answer
    assert [(host["host"], host["ok"]) for host in answer["hosts"]] == [(name, True) for name in NAMES]
    assert all(len(host["states"]) > 15 for host in answer["hosts"])
    for machine, _ in site.minions.values():
        assert 'name = "edge-1"' in machine.read("/srv/purgeline/shared/engine.toml")


@pytest.mark.slow
@pytest.mark.usefixtures("first")
def test_a_state_that_fails_on_a_minion_fails_the_run(site: Site) -> None:
    code, answer = site.salt(states="engine.nope", hosts=["cdn-1"])
    assert code == 1
    [host] = answer["hosts"]
    assert "cannot be rendered" in host["reason"]


@pytest.mark.slow
@pytest.mark.usefixtures("first")
def test_a_stopped_minion_is_reported_and_fails_the_run(site: Site) -> None:
    site.stop("cdn-2")
    with site.called_with("--timeout=1"):  # nobody else is asked who could be taken for stopped
        code, answer = site.salt(hosts=["cdn-2"])
    assert code == 1
    [host] = answer["hosts"]
    assert (host["host"], host["ok"], host["kind"]) == ("cdn-2", False, "missing")
    assert "gave no answer" in host["reason"]


@pytest.mark.slow
@pytest.mark.usefixtures("first")
def test_a_host_that_is_no_minion_is_reported(site: Site) -> None:
    with (site.master.folder / "hosts.toml").open("a") as file:
        file.write('[[hosts]]\nname = "cdn-3"\n')
    with site.called_with("--timeout=10"):
        code, answer = site.salt(hosts=["cdn-1", "cdn-3"], is_test=True)
    assert code == 1
    assert [host["ok"] for host in answer["hosts"]] == [True, False]
