"""The units on a machine that systemd really runs: started by a client, told to reload, watched, rebooted."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

import pytest

from release.build import packing
from release.hosts.remote import AGENT
from release.repository.repository import open_repository
from tests.fakes import artefacts, small_release
from tests.fakes.recorded import tasks
from tests.rigs import real_site
from tests.rigs.booted import Booted
from tests.rigs.states_on_machine import apply, changed, example_pillar
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.rigs.machine import Machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NODE = {"name": "edge-1", "driver": "varnish", "url": "http://127.0.0.1:1"}
WATCHDOG_S = 3
EXPOSURE_MAX = 1.3  #: of 10, where less is better


def ask(booted: Booted, op: str, **request: Any) -> dict[str, Any]:
    """Have the agent do an operation in there."""
    line = json.dumps({"root": str(booted.root), **request})
    done = booted.run("/usr/bin/python3", "-I", "-B", str(AGENT), op, stdin=line, check=False, timeout_s=240)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert answer["ok"], "\n".join([answer["error"], *answer.get("log", []), done.stderr])
    return answer


def version(booted: Booted) -> str:
    """Return what a client is told; a connection waits until something answers."""
    command = ["curl", "-sS", "--fail", "--max-time", "50", "http://127.0.0.1:9181/version"]
    return str(json.loads(booted.run(*command).stdout)["version"])


def main_pid(booted: Booted) -> int:
    return int(booted.show("MainPID"))


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory, fetched_wheels: Path) -> Iterator[Booted]:
    """A booted machine in the state of the release's states, with 1.0 as a first release; 1.1 is unpacked."""
    folder = tmp_path_factory.mktemp("booted")
    settings = small_release.signer(folder)
    artefacts.share_wheels(folder / "cache", fetched_wheels)
    tree = real_site.clone(folder / "tree")
    packed, envelope = [], b""
    for name in ("1.0", "1.1"):
        built = packing.build(
            release=name, out=folder / "dist", root=tree, settings=settings, self_test=False, pure=True
        )
        packed.append(built)
        with open_repository("", settings) as repository:
            repository.publish(built.path, channel="stable")
            envelope = repository.envelope()
        real_site.commit(tree, "the next one")
    (folder / "machine").mkdir()
    with Booted(folder / "machine") as made:
        made.run("rm", "-rf", "/srv/purgeline")
        config = {"engine": {"listen": "127.0.0.1:9181"}, "node": [NODE]}
        pillar = changed(
            example_pillar(),
            config=config,
            nginx={"enabled": False},
            tuning={"enabled": False},
            unit={"watchdog_s": WATCHDOG_S},
        )
        found = apply(cast("Machine", made), pillar)
        assert found.ok, found
        for built in packed:
            small = small_release.Small(
                built.path, built.version, built.sha256, built.size, envelope, settings.trusted_keys
            )
            ask(made, "unpack", **small.request())
        ask(made, "reload", version="1.0", bake_s=0)
        yield made


def test_a_first_reload_starts_what_the_states_enabled(booted: Booted) -> None:
    assert version(booted) == "1.0"
    assert booted.run("systemctl", "is-active", "purgeline.socket", "purgeline.service").stdout.split() == [
        *("active", "active")
    ]
    assert booted.show("Type") == "notify"
    assert booted.show("StatusText")
    assert booted.show("User") == "purgeline"


def test_shadows_run_as_the_user_of_the_engine(booted: Booted) -> None:
    """The agent is root's here, and the new version is not to be."""
    file = f"{booted.root}/cache/t.gor"
    booted.run("sh", "-c", f"umask 077; cat >{file}", stdin=tasks(50).decode())
    asked = {"was": "1.0", "version": "1.1", "requests": 500, "slice": 50, "slices": 10, "ready_s": 60}

    seen: set[str] = set()

    def users() -> set[str]:
        listed = booted.run("ps", "-ww", "-eo", "user:20,args").stdout.splitlines()
        return {line.split()[0] for line in listed if f"--config {booted.root}/shadow/" in line}

    with ThreadPoolExecutor() as pool:
        answered = pool.submit(ask, booted, "shadow", file=file, **asked)
        while not answered.done():
            seen |= users()
        report = answered.result()["report"]
    assert seen == {"purgeline"}
    assert (report["compared"], report["different"], report["results_different"]) == (500, 0, 0), report
    assert version(booted) == "1.0"
    assert booted.run("ls", f"{booted.root}/shadow", file, check=False).stdout == ""
    assert users() == set()


def test_a_reload_brings_another_release_under_the_same_process(booted: Booted) -> None:
    before = main_pid(booted)
    ask(booted, "reload", version="1.1", bake_s=0.5)
    assert (version(booted), main_pid(booted)) == ("1.1", before)


def test_systemctl_reload_ends_with_the_reload_and_fails_with_it(booted: Booted) -> None:
    before = main_pid(booted)
    booted.run("systemctl", "reload", "purgeline.service")
    path = f"{booted.root}/shared/engine.toml"
    text = booted.run("cat", path).stdout
    booted.run("sh", "-c", f"echo nonsense >>{path}")
    done = booted.run("systemctl", "reload", "purgeline.service", check=False)
    assert done.returncode != 0
    assert (version(booted), main_pid(booted)) == ("1.1", before)
    booted.run("tee", path, stdin=text)
    booted.run("systemctl", "reload", "purgeline.service")


def test_a_client_starts_a_stopped_service_by_its_socket(booted: Booted) -> None:
    booted.run("systemctl", "stop", "purgeline.service")
    assert booted.run("systemctl", "is-active", "purgeline.service", check=False).stdout == "inactive\n"
    assert version(booted) == "1.1"


def test_a_supervisor_that_hangs_is_replaced_by_the_watchdog(booted: Booted) -> None:
    before = main_pid(booted)
    booted.run("kill", "-STOP", str(before))
    wait_until(lambda: main_pid(booted) not in {0, before}, timeout_s=60, what="another supervisor")
    assert version(booted) == "1.1"
    assert booted.show("NRestarts") == "1"


def test_the_doctor_sees_the_limit_of_the_unit_and_that_of_its_processes(booted: Booted) -> None:
    """A drop-in counts for the unit at once, and for the engine when it is started again."""
    drop_in = "/etc/systemd/system/purgeline.service.d/few.conf"

    def limits() -> list[tuple[str, str]]:
        rows = {check["name"]: check for check in ask(booted, "doctor")["checks"]}
        found = [rows[name] for name in ("unit_files", "open_files")]
        return [(row["verdict"], row["value"].partition(",")[0]) for row in found]

    before = limits()
    (unit, _), (engine, _) = before
    assert unit == "ok"
    assert engine in {"ok", "warn"}  # as this machine lets its processes
    booted.run("install", "-D", "/dev/stdin", drop_in, stdin="[Service]\nLimitNOFILE=100\n")
    booted.run("systemctl", "daemon-reload")
    assert limits() == [("fail", "100"), before[1]]
    booted.run("systemctl", "restart", "purgeline.service")
    assert version(booted) == "1.1"
    assert limits() == [("fail", "100"), ("fail", "100")]
    booted.run("rm", drop_in)
    booted.run("systemctl", "daemon-reload")
    booted.run("systemctl", "restart", "purgeline.service")
    assert version(booted) == "1.1"
    assert limits() == before


def test_after_a_reboot_it_serves_as_before(booted: Booted) -> None:
    booted.run("systemctl", "reboot", check=False)
    booted.wait_down()
    booted.boot()
    assert version(booted) == "1.1"
    assert ask(booted, "status")["drift"] is False


def test_the_unit_is_closed_to_what_the_engine_does_not_use(booted: Booted) -> None:
    done = booted.run("systemd-analyze", "security", "--no-pager", "purgeline.service")
    [line] = [line for line in done.stdout.splitlines() if "Overall exposure level" in line]
    print(line)
    assert float(line.split(":")[1].split()[0]) <= EXPOSURE_MAX
