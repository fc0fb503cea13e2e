"""release.lab.system: what is missing, which commands get it, and when nothing may be run."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from release.lab import system
from release.lab.system import Machine, MissingPackagesError, Requirement

ROOT = Machine(has_apt=True, is_root=True, can_sudo=False, has_lists=True)
SUDOER = Machine(has_apt=True, is_root=False, can_sudo=True, has_lists=True)
USER = Machine(has_apt=True, is_root=False, can_sudo=False, has_lists=True)
NEW = Machine(has_apt=True, is_root=True, can_sudo=False, has_lists=False)
OTHER = Machine(has_apt=False, is_root=True, can_sudo=False, has_lists=False)

INSTALL = (
    "env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -o DPkg::Lock::Timeout=120 "
    "install -y -q --no-install-recommends"
)


class FakeApt:
    """Remembers commands; an installed package's programs are there from then on."""

    def __init__(self, *there: str, fails: Callable[[list[str]], bool] = lambda _seen: False) -> None:
        self.there = set(there)
        self.seen: list[str] = []
        self.fails = fails

    def run(self, command: Sequence[str]) -> bool:
        self.seen.append(" ".join(command))
        if self.fails(self.seen):
            return False
        self.there.update(r.probe for r in system.REQUIREMENTS["test"] if r.package in command)
        return True

    def ensure(self, machine: Machine) -> list[str]:
        return system.ensure(
            "test", is_there=self.there.__contains__, machine=machine, run=self.run, say=lambda _line: None
        )


def all_but(*packages: str) -> list[str]:
    return [r.probe for r in system.REQUIREMENTS["test"] if r.package not in packages]


def test_missing_keeps_order_and_leaves_out_what_is_there() -> None:
    wanted = [Requirement("b-pkg", "b"), Requirement("a-pkg", "a"), Requirement("c-pkg", "c")]
    assert system.missing(wanted, {"a"}.__contains__) == ["b-pkg", "c-pkg"]


@pytest.mark.parametrize(
    ("machine", "commands"),
    [
        (ROOT, [f"{INSTALL} wrk curl"]),
        (SUDOER, [f"sudo -n {INSTALL} wrk curl"]),
        (USER, [f"sudo {INSTALL} wrk curl"]),
        (NEW, [INSTALL.partition("install")[0] + "update -q", f"{INSTALL} wrk curl"]),
    ],
)
def test_plan(machine: Machine, commands: list[str]) -> None:
    assert [" ".join(command) for command in system.plan(["wrk", "curl"], machine)] == commands


def test_nothing_missing_runs_nothing() -> None:
    apt = FakeApt(*all_but())
    assert apt.ensure(USER) == []
    assert apt.seen == []


def test_only_what_is_missing_is_installed() -> None:
    apt = FakeApt(*all_but("squid", "wrk"))
    assert apt.ensure(SUDOER) == ["squid", "wrk"]
    assert apt.seen == [f"sudo -n {INSTALL} squid wrk"]


@pytest.mark.parametrize("machine", [USER, OTHER])
def test_who_may_not_install_gets_the_list_and_the_command(machine: Machine) -> None:
    apt = FakeApt(*all_but("varnish", "squid"))
    with pytest.raises(MissingPackagesError) as caught:
        apt.ensure(machine)
    assert apt.seen == []
    assert caught.value.packages == ("varnish", "squid")
    assert "missing system packages: varnish squid\n" in str(caught.value)
    assert f"{INSTALL} varnish squid" in str(caught.value)


def test_outdated_lists_are_read_again_and_the_install_repeated() -> None:
    apt = FakeApt(*all_but("wrk"), fails=lambda seen: len(seen) == 1)
    assert apt.ensure(ROOT) == ["wrk"]
    install, update, again = apt.seen
    assert install == again == f"{INSTALL} wrk"
    assert update.endswith(" update -q")


def test_a_failed_install_names_what_is_still_missing() -> None:
    apt = FakeApt(*all_but("wrk"), fails=lambda _seen: True)
    with pytest.raises(MissingPackagesError, match="missing system packages: wrk"):
        apt.ensure(ROOT)


def test_an_install_that_brings_no_program_is_a_failure() -> None:
    """A package of that name without the program: say so now, not in the middle of the tests."""
    with pytest.raises(MissingPackagesError, match="wrk"):
        system.ensure(
            "test",
            is_there=set(all_but("wrk")).__contains__,
            machine=ROOT,
            run=lambda _command: True,
            say=lambda _line: None,
        )


def test_find_looks_beyond_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "sbin" / "purgeline-probe"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not system.find("purgeline-probe")
    monkeypatch.setattr(system, "SYSTEM_DIRS", (str(program.parent),))
    assert system.find("purgeline-probe")


def test_find_takes_a_pattern_for_a_file(tmp_path: Path) -> None:
    pattern = f"{tmp_path}/lib*/vmods/one.so".removeprefix("/")
    assert not system.find(pattern)
    module = tmp_path / "lib64" / "vmods" / "one.so"
    module.parent.mkdir(parents=True)
    module.touch()
    assert system.find(pattern)
