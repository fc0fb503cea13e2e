"""States applied by salt-call on a machine of namespaces: what is there then, and what a mistake leaves."""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from engine.config import load
from release.settings import ROOT
from release.states import render
from tests.rigs.states_on_machine import PYTHON, apply, changed, example_pillar, ids

if TYPE_CHECKING:
    from release.states.results import HostStates
    from tests.rigs.machine import Machine

UNITS = ("/etc/systemd/system/purgeline.service", "/etc/systemd/system/purgeline.socket")
OUTBOX_UNITS = tuple(f"/etc/systemd/system/purgeline-outbox.{kind}" for kind in ("service", "timer"))
RULES = "/srv/rules"
FILES = (
    *UNITS,
    *OUTBOX_UNITS,
    "/etc/sysctl.d/60-purgeline.conf",
    "/etc/security/limits.d/60-purgeline.conf",
    "/etc/nginx/conf.d/purgeline.conf",
    "/etc/logrotate.d/purgeline",
)


@pytest.fixture(scope="module")
def pillar() -> dict[str, Any]:
    """The example, with a Traffic Server whose rules the engine writes."""
    found = example_pillar()
    files = {"rules_file": f"{RULES}/ats-1.rules", "rules_state_file": "/var/cache/ats/ats-1.state"}
    found["engine"]["config"]["node"].append(
        {"name": "ats-1", "driver": "ats", "url": "http://127.0.0.1:8080", **files}
    )
    return found


@pytest.fixture(scope="module")
def first(machine: Machine, pillar: dict[str, Any]) -> HostStates:
    """What became of salt/pillar.example on the new machine."""
    found = apply(machine, pillar)
    assert found.ok, found
    return found


@pytest.fixture
def applied(machine: Machine, first: HostStates) -> Machine:
    """The machine with salt/pillar.example applied."""
    assert first.ok
    return machine


def assert_named(found: HostStates) -> None:
    """Check that ids of states name formula, file, state and function."""
    assert found.states
    for state in found.states:
        function = re.escape(state.function.replace(".", "-").replace("_", "-"))
        assert re.match(rf"engine-[a-z]+-{function}(-|$)", state.id), state


def test_a_diff_tells_what_would_change_and_changes_nothing(machine: Machine, pillar: dict[str, Any]) -> None:
    found = apply(machine, pillar, is_test=True)
    assert found.ok
    assert {"engine-install-user-present", "engine-config-file-managed"} <= set(ids(found.changed))
    assert not any(machine.has(path) for path in FILES)
    assert not machine.has(machine.root / "shared")
    assert machine.run("getent", "passwd", "purgeline", check=False).returncode == 2


def test_a_second_run_changes_nothing(applied: Machine, pillar: dict[str, Any]) -> None:
    found = apply(applied, pillar)
    assert found.ok
    assert ids(found.changed) == []
    assert all(applied.has(path) for path in FILES)


def test_state_ids_name_formula_file_state_and_function(first: HostStates) -> None:
    """Those of the formula; those that take it back are looked at where that is done."""
    assert_named(first)


def test_the_account_may_write_its_data_and_its_sockets_only(applied: Machine) -> None:
    shared = applied.root / "shared"
    listed = applied.run("stat", "-c", "%U:%G %a", *(str(path) for path in (
        applied.root, applied.root / "releases", applied.root / "cache", shared, shared / "engine.toml",
        shared / "run", shared / "var",
    ))).stdout.splitlines()  # fmt: skip
    assert listed == [
        "root:root 755",
        "root:root 755",
        "root:root 700",
        "root:root 755",
        "root:purgeline 640",
        "purgeline:purgeline 750",
        "purgeline:purgeline 750",
    ]
    assert applied.read("/etc/passwd").splitlines()[-1].endswith(":/usr/sbin/nologin")


def test_the_configuration_is_what_the_controller_renders(applied: Machine, pillar: dict[str, Any]) -> None:
    text = applied.read(applied.root / "shared/engine.toml")
    assert text == render.render("engine.toml.j2", {"config": pillar["engine"]["config"]})
    assert tomllib.loads(text) == pillar["engine"]["config"]
    load.parse(tomllib.loads(text))


def test_nothing_of_a_run_is_left_on_the_host(applied: Machine) -> None:
    assert applied.run("ls", str(applied.root / "cache")).stdout.split() == ["salt.lock"]


def test_systemd_finds_nothing_wrong_with_the_units(applied: Machine) -> None:
    done = applied.run("systemd-analyze", "verify", *UNITS, *OUTBOX_UNITS)
    assert done.stdout + done.stderr == ""


def test_the_timer_of_the_outbox_sends_what_its_folder_has(applied: Machine) -> None:
    """Run as systemd would, with the code of this tree for a release's: it ends with 3, and says why."""
    mode = applied.run("stat", "-c", "%U %a", "/var/spool/purgeline").stdout
    assert mode == "purgeline 700\n"
    [line] = [one for one in applied.read(OUTBOX_UNITS[0]).splitlines() if one.startswith("ExecStart=")]
    command = shlex.split(line.removeprefix("ExecStart=/usr/bin/env "))
    assert command[0] == f"{applied.root}/current/venv/bin/python"
    applied.run(PYTHON, "-P", "-m", "engine", "purge", "http://img.example.com/", "--id", "kept",
        "--engine", "http://127.0.0.1:1", "--outbox", "/var/spool/purgeline", check=False)  # fmt: skip
    kept = applied.run("find", "/var/spool/purgeline", "-name", "*kept*", "-printf", "%u").stdout
    assert kept == "purgeline"  # though root has put it there
    done = applied.run(PYTHON, "-P", *command[2:], check=False)
    assert (done.returncode, done.stdout) == (3, "sent 0\nwaiting 1\nrefused 0\n"), done.stderr
    assert (
        "post to engine failed: engine http://127.0.0.1:9181 unreachable: Connection refused" in done.stderr
    )


def test_the_service_may_write_where_rules_of_caches_are(applied: Machine) -> None:
    lines = applied.read(UNITS[0]).splitlines()
    shared = applied.root / "shared"
    allowed = [line for line in lines if line.startswith("ReadWritePaths=")]
    assert allowed == [f"ReadWritePaths={shared}/run {shared}/var", f"ReadWritePaths=-{RULES}"]


def test_the_service_is_hardened(applied: Machine) -> None:
    done = applied.run("systemd-analyze", "security", "--offline=yes", "--no-pager", UNITS[0])
    level = re.search(r"Overall exposure level for purgeline.service: ([0-9.]+)", done.stdout)
    assert level is not None
    assert float(level[1]) <= 1.5


def test_kernel_limits_are_raised_and_never_lowered(applied: Machine) -> None:
    assert applied.sysctl_file("net.core.somaxconn").read_text() == "16384\n"
    assert applied.sysctl_file("net.ipv4.tcp_tw_reuse").read_text() == "1\n"
    assert applied.sysctl_file("net.ipv4.tcp_timestamps").read_text() == "1\n"  # or nothing is taken again
    assert applied.sysctl_file("net.ipv4.ip_local_port_range").read_text() == "10240 65535\n"
    assert applied.sysctl_file("fs.file-max").read_text() == "9223372036854775807\n"
    lines = applied.read("/etc/sysctl.d/60-purgeline.conf").splitlines()
    assert "-fs.file-max = 9223372036854775807" in lines
    assert "-net.core.somaxconn = 16384" in lines


@pytest.mark.slow
def test_a_kernel_key_that_is_not_there_is_set_once_it_is(applied: Machine, pillar: dict[str, Any]) -> None:
    assert "-net.netfilter.nf_conntrack_max = 1048576\n" in applied.read("/etc/sysctl.d/60-purgeline.conf")
    conntrack = applied.sysctl_file("net.netfilter.nf_conntrack_max")
    conntrack.parent.mkdir()
    conntrack.write_text("65536\n")
    try:
        found = apply(applied, pillar, name="engine.tuning")
        assert ids(found.changed) == ["engine-tuning-cmd-run-net.netfilter.nf_conntrack_max"]
        assert conntrack.read_text() == "1048576\n"
    finally:
        conntrack.unlink()


def test_logrotate_takes_the_file_beside_those_of_the_system(applied: Machine) -> None:
    log = applied.root / "shared/supervisor.log"
    log.write_text("a line\n" * 1000)
    applied.run("logrotate", "--debug", "/etc/logrotate.conf")
    done = applied.run("logrotate", "--force", "--verbose", "--state", str(applied.folder / "state"),
                       "/etc/logrotate.d/purgeline")  # fmt: skip
    assert "error" not in done.stderr
    assert log.read_text() == ""
    assert (log.parent / "supervisor.log.1").read_text() == "a line\n" * 1000


def test_secrets_are_not_shown(applied: Machine, pillar: dict[str, Any]) -> None:
    node = {**pillar["engine"]["config"]["node"][0], "headers": {"X-Purge-Secret": "do not tell"}}
    found = apply(applied, changed(pillar, config={"node": [node]}), is_test=True)
    [state] = [state for state in found.changed if state.id == "engine-config-file-managed"]
    assert "+headers = (hidden)" in state.changes["diff"]
    assert "do not tell" not in str(found)


def test_a_release_checks_the_configuration_before_it_is_replaced(
    applied: Machine, pillar: dict[str, Any]
) -> None:
    """The release is this tree's own engine."""
    release = applied.root / "releases/1.0"
    release.mkdir()
    (release / "venv").symlink_to(ROOT / ".venv")
    (applied.root / "current").symlink_to("releases/1.0")
    path = applied.root / "shared/engine.toml"
    before = path.read_text()
    try:
        found = apply(applied, changed(pillar, config={"engine": {"lisen": "127.0.0.1:9181"}}))
        assert not found.ok
        assert ids(found.failed) == ["engine-config-file-managed"]
        assert "did you mean 'listen'?" in found.failed[0].comment
        assert path.read_text() == before

        good = changed(pillar, config={"engine": {"listen": "127.0.0.1:9181", "due_s": 30}})
        found = apply(applied, good)
        assert ids(found.changed) == ["engine-config-file-managed"]
        assert "+due_s = 30" in found.changed[0].changes["diff"]
        assert "engine-config-test-show-notification" not in ids(found.states)
    finally:
        path.write_text(before)
        (applied.root / "current").unlink()
        (release / "venv").unlink()
        release.rmdir()


def test_without_a_release_it_says_that_the_configuration_is_not_checked(first: HostStates) -> None:
    [said] = [state for state in first.states if state.function == "test.show_notification"]
    assert "engine.toml is not checked: no release is unpacked yet" in said.comment


@pytest.mark.parametrize(
    ("areas", "reason"),
    [
        (
            {"purge_data": "false"},
            "pillar engine:purge_data: 'false' (text) is no boolean; write true or false",
        ),
        *(
            pytest.param(areas, reason, marks=pytest.mark.slow)  # each takes a run of Salt
            for areas, reason in (
                ({"user": "root"}, "the engine needs no rights of root"),
                ({"rot": "/srv"}, "pillar engine: unknown key 'rot'; known: config, group"),
                ({"config": None}, "pillar engine:config is missing"),
                ({"config": {"engine": {"listen": "localhost:80"}}}, "systemd takes no names"),
                (
                    {"config": {"engine": {"data_dir": "run"}}},
                    "run' holds other things than",
                ),
            )
        ),
    ],
)
def test_a_pillar_that_cannot_be_right_is_refused_and_nothing_is_changed(
    applied: Machine, pillar: dict[str, Any], areas: dict[str, Any], reason: str
) -> None:
    """What each key takes is in tests/unit/release/test_pillar.py, by the same schema."""
    found = apply(applied, changed(pillar, **areas), name="engine.clean")
    assert not found.ok
    assert found.kind == "render"
    assert reason in found.reason
    assert applied.has(applied.root / "shared/engine.toml")


@pytest.mark.slow
def test_what_is_another_installations_stays(applied: Machine, pillar: dict[str, Any]) -> None:
    """Its unit, and a data folder outside the root: neither is taken, nor are they removed."""
    data = applied.root.parent / "data-of-others"
    data.mkdir()
    (data / "file").touch()
    other = changed(pillar, purge_data=True, config={"engine": {"data_dir": str(data)}})
    root = applied.root.parent / "purge"
    try:
        found = apply(applied, other, root=root)
        assert "purgeline.service runs the installation in" in found.reason
        found = apply(applied, other, name="engine.install", root=root)
        assert found.ok
        assert f"{data} is outside {root} and stays as it is" in str(found.states)
        found = apply(applied, other, name="engine.clean", root=root)
        assert found.ok, found
        assert (data / "file").exists()
        assert data.stat().st_uid == 0
        assert all(applied.has(path) for path in FILES)
        assert applied.run("getent", "passwd", "purgeline").returncode == 0
    finally:
        shutil.rmtree(data)
    assert not root.exists()


@pytest.mark.slow
def test_hosts_are_told_apart_by_name_and_groups(applied: Machine, pillar: dict[str, Any]) -> None:
    top = """
base:
  "*": [common]
  "purgeline:groups:canary":
    - match: grain
    - canary
  cdn-2: [other]
"""
    files = {
        "pillar/top.sls": top,
        "pillar/common.sls": f"engine: {pillar['engine']!r}".replace("None", "null"),
        "pillar/canary.sls": "engine: {config: {engine: {due_s: 11, data_dir: '{{ grains.id }}'}}}",
        "pillar/other.sls": "engine: {config: {engine: {due_s: 12}}}",
    }
    files["pillar/common.sls"] = files["pillar/common.sls"].replace("True", "true").replace("False", "false")
    found = apply(applied, files, name="engine.config", is_test=True)
    [state] = [state for state in found.changed if state.id == "engine-config-file-managed"]
    assert "+due_s = 11" in state.changes["diff"]
    assert '+data_dir = "cdn-1"' in state.changes["diff"]


def test_clean_takes_back_all_but_the_data_and_it_can_be_applied_again(
    applied: Machine, pillar: dict[str, Any]
) -> None:
    stored = applied.root / "shared/var/store.sqlite"
    stored.write_text("tasks")
    cleaned = apply(applied, pillar, name="engine.clean")
    assert cleaned.ok
    assert_named(cleaned)
    assert not any(applied.has(path) for path in FILES)
    assert not applied.has(applied.root / "shared/engine.toml")
    assert stored.read_text() == "tasks"
    assert applied.run("getent", "passwd", "purgeline").returncode == 0
    assert ids(apply(applied, pillar, name="engine.clean").changed) == []

    assert apply(applied, pillar).ok
    assert all(applied.has(path) for path in FILES)

    found = apply(applied, changed(pillar, purge_data=True), name="engine.clean")
    assert found.ok
    assert not stored.exists()
    assert applied.run("find", str(applied.root), "-type", "f", check=False).stdout == ""
    assert applied.run("getent", "passwd", "purgeline", check=False).returncode == 2
    assert applied.run("getent", "group", "purgeline", check=False).returncode == 2
