"""release.host: the engine takes a release over, then the links follow; else the old one serves on."""

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from release.agent import package
from release.lab.caches import free_port
from tests.fakes import small_release, supervisors
from tests.fakes.small_release import Small
from tests.rigs.host_calls import HostCalls, Refusal, served, take
from tests.waiting import wait_until

VERSIONS = ("1.0.0", "1.1.0", "1.2.0")


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artefacts")


@pytest.fixture(scope="module")
def good(artefacts: Path) -> list[Small]:
    made = [small_release.small(artefacts, version) for version in VERSIONS]
    made_at = time.time()  # serials are seconds, a new one each: those of other repositories come later
    wait_until(lambda: time.time() > made_at + len(VERSIONS), what="serials to be of the past")
    return [Small(**{**one.__dict__, "envelope": made[-1].envelope}) for one in made]


def folders(host: HostCalls) -> list[str]:
    """Return the supervisor's folders on the host."""
    return sorted(path.name for path in (host.root / "shared").glob("supervisor-*"))


def test_the_first_release_is_started_and_the_next_ones_take_over(
    host: HostCalls, port: int, good: list[Small]
) -> None:
    """Links are relative; the supervisor stays; again is nothing; the history says all of it."""
    assert take(host, port, good[0])["started"]
    pid = host.call("status")["pid"]
    assert (served(port), host.linked("current"), host.linked("previous")) == ("1.0.0", "releases/1.0.0", "")
    answer = take(host, port, good[1])
    assert (answer["from"], answer["to"], answer["unchanged"]) == ("1.0.0", "1.1.0", False)
    assert {event["event"] for event in host.events} >= {"spawned", "ready", "accepting", "baking"}
    assert (served(port), host.linked("current")) == ("1.1.0", "releases/1.1.0")
    assert host.linked("previous") == "releases/1.0.0"
    assert take(host, port, good[1])["unchanged"]
    status = host.call("status")
    assert (status["pid"], status["version"], status["drift"]) == (pid, "1.1.0", False)
    entries = [(entry["action"], entry["version"]) for entry in host.call("history")["entries"]]
    assert entries == [("unpack", "1.0.0"), ("reload", "1.0.0"), ("unpack", "1.1.0"), ("reload", "1.1.0")]


#: What a bad release does, which kind of refusal that is, and a word of the reason.
BAD: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({"import_error": "no module named nothing"}, "reload-start", "no module named nothing"),
    ({"exit_code": 7}, "reload-start", "exit code 7"),
    ({"hang": True}, "reload-", "ready"),
    ({"ready_status": 503}, "reload-ready", "503"),
    ({"says": "9.9.9"}, "reload-version", "9.9.9"),
    ({"exit_after_s": 0.1}, "reload-bake", "the release before"),
)
LIMITS_S = {"hang": 1.5, "ready_status": 5}  #: of those that are waited for in vain


@dataclass(frozen=True)
class Serving:
    """An installation that serves 1.0.0, and the bad releases that its repository has."""

    host: HostCalls
    port: int
    bad: list[Small]


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, quick_python: Path) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("serving")
    made = [small_release.small(folder / "artefacts", "1.0.0")]
    for number, (behaviour, _, _) in enumerate(BAD):
        made.append(small_release.small(folder / "artefacts", f"2.{number}.0", **behaviour))
    first, *bad = [replace(one, envelope=made[-1].envelope) for one in made]
    found = Serving(HostCalls(folder / "root", python=quick_python), free_port(), bad)
    take(found.host, found.port, first)
    yield found
    found.host.close()


@pytest.mark.parametrize("number", range(len(BAD)), ids=[next(iter(behaviour)) for behaviour, _, _ in BAD])
def test_a_release_that_is_bad_leaves_the_old_one_serving(serving: Serving, number: int) -> None:
    """The reason and the worker's last lines are in the answer, and the history has it."""
    behaviour, kind, why = BAD[number]
    host, port, bad = serving.host, serving.port, serving.bad[number]
    with pytest.raises(Refusal) as caught:
        take(host, port, bad, timeout_s=LIMITS_S.get(next(iter(behaviour)), 60), bake_s=1)
    assert caught.value.kind.startswith(kind)
    assert why in json.dumps(caught.value.answer)
    assert (served(port), host.linked("current")) == ("1.0.0", "releases/1.0.0")
    last = host.call("history")["entries"][-1]
    assert (last["action"], last["ok"], last["version"]) == ("reload", False, bad.version)


def test_a_first_release_that_does_not_start_leaves_no_links(
    host: HostCalls, port: int, artefacts: Path
) -> None:
    bad = small_release.small(artefacts / "first", "3.0.0", import_error="missing thing")
    with pytest.raises(Refusal, match="does not start") as caught:
        take(host, port, bad)
    assert "missing thing" in json.dumps(caught.value.answer["log"])
    assert (host.linked("current"), host.call("status")["state"]) == ("", "stopped")


def test_what_is_needed_first_is_told(host: HostCalls, port: int, good: list[Small]) -> None:
    """An unknown version, no configuration, one that the release cannot use."""
    host.call("unpack", **good[0].request())
    with pytest.raises(Refusal, match=r"9\.9 is not unpacked on this host, 1\.0\.0 is"):
        host.call("reload", version="9.9", listen=f"127.0.0.1:{port}")
    with pytest.raises(Refusal, match=r"engine\.toml is missing; the task salt writes it"):
        host.call("reload", version="1.0.0")
    (host.root / "shared/engine.toml").write_text("refuse = 1\n")
    with pytest.raises(Refusal, match=r"cannot use the configuration: .*unknown key 'refuse'"):
        host.call("reload", version="1.0.0")
    assert host.call("status")["state"] == "stopped"


def test_a_rollback_goes_where_the_history_says(host: HostCalls, port: int, good: list[Small]) -> None:
    """Never by the order of folders, and not to one that was taken back."""
    for artefact in (good[0], good[2], good[1]):
        take(host, port, artefact)
    assert host.call("previous")["version"] == "1.2.0"
    host.call("append", entry={"action": "auto-rollback", "version": "1.1.0", "from": "1.2.0", "ok": True})
    assert host.call("previous")["version"] == "1.0.0"
    host.call("reload", version="1.0.0", bake_s=0.2, action="rollback")
    assert (served(port), host.linked("previous")) == ("1.0.0", "releases/1.1.0")


@pytest.mark.slow
def test_pruning_spares_what_is_in_use_and_the_last_good_ones(
    host: HostCalls, port: int, good: list[Small]
) -> None:
    """Current, previous and running stay whatever the number says; half-made ones go."""
    for artefact in good:
        take(host, port, artefact)
    (host.root / "releases/0.9.0").mkdir()
    wanted = host.call("prune", keep=1, dry_run=True)
    assert wanted["removed"] == ["0.9.0", "1.0.0"]
    assert (host.root / "releases/1.0.0").exists()
    done = host.call("prune", keep=1)
    assert (done["removed"], sorted(done["kept"])) == (["0.9.0", "1.0.0"], ["1.1.0", "1.2.0"])
    assert sorted(path.name for path in (host.root / "releases").iterdir()) == ["1.1.0", "1.2.0"]
    with pytest.raises(Refusal, match="keep: takes a number"):
        host.call("prune", keep=0)


@pytest.mark.slow
def test_pruning_spares_a_release_that_runs_though_no_link_names_it(
    host: HostCalls, port: int, good: list[Small]
) -> None:
    take(host, port, good[0])
    for name, version in (("current", "1.1.0"), ("previous", "1.2.0")):
        host.call("unpack", **next(one for one in good if one.version == version).request())
        (host.root / name).unlink(missing_ok=True)
        (host.root / name).symlink_to(f"releases/{version}")
    assert host.call("prune", keep=1)["kept"]["1.0.0"]
    assert host.call("status")["drift"]
    assert served(port) == "1.0.0"


def test_a_new_supervisor_takes_over_in_the_same_process(
    host: HostCalls, port: int, good: list[Small], artefacts: Path
) -> None:
    take(host, port, good[0])
    pid = host.call("status")["pid"]
    modules = supervisors.modules(("start.py", "", "\n# another one\n"))
    newer = small_release.small(artefacts / "newer", "4.0.0", supervisor=modules)
    take(host, port, newer)
    status = host.call("status")
    assert (status["pid"], status["version"]) == (pid, "4.0.0")
    text = (host.root / "shared/supervisor.py").read_bytes()
    assert status["supervisor_sha256"] == small_release._sha256(text)
    assert folders(host) == [f"supervisor-{package.digest_of(modules)}"]
    broken = small_release.small(artefacts / "broken", "4.1.0", supervisor=b"this is no Python")
    with pytest.raises(Refusal, match="the new supervisor cannot take over"):
        take(host, port, broken)
    assert (served(port), host.linked("current")) == ("4.0.0", "releases/4.0.0")
    assert (host.root / "shared/supervisor.py").read_bytes() == text


def test_a_supervisor_that_dies_when_it_takes_over_leaves_the_old_release_serving(
    host: HostCalls, port: int, good: list[Small], artefacts: Path
) -> None:
    """It passes every check before; what ran is started again with the file that it had."""
    take(host, port, good[0])
    host.call("unpack", **good[1].request())
    place = "    try:\n        options = parse("
    dies = "    '--check' in sys.argv or '--handover' not in sys.argv or os._exit(9)\n"
    modules = supervisors.modules(("start.py", place, dies + place))
    bad = small_release.small(artefacts / "dies", "5.0.0", supervisor=modules)
    with pytest.raises(Refusal, match="the new supervisor cannot take over"):
        take(host, port, bad)
    assert "restart" in {event["event"] for event in host.events}
    assert (served(port), host.linked("current")) == ("1.0.0", "releases/1.0.0")
    assert host.call("reload", version="1.1.0", bake_s=0.2)["to"] == "1.1.0"


@pytest.mark.slow
def test_on_the_way_back_an_older_supervisor_that_cannot_take_over_is_left_out(
    host: HostCalls, port: int, good: list[Small], artefacts: Path
) -> None:
    """It must not keep anybody from the older engine; going forward it does."""
    take(host, port, good[1])
    text = b"raise SystemExit('of another time')\n"
    host.call("unpack", **small_release.small(artefacts / "older", "0.9.0", supervisor=text).request())
    with pytest.raises(Refusal, match="the new supervisor cannot take over"):
        host.call("reload", version="0.9.0", bake_s=0.2)
    host.call("reload", version="0.9.0", bake_s=0.2, action="rollback")
    assert "kept" in {event["event"] for event in host.events}
    assert (served(port), host.linked("current")) == ("0.9.0", "releases/0.9.0")


@pytest.mark.slow
def test_a_supervisor_of_one_file_is_taken_over_and_gone_back_to(
    host: HostCalls, port: int, artefacts: Path
) -> None:
    """The release before has it; process and clients do not notice."""
    single = supervisors.one_file()
    take(host, port, small_release.small(artefacts / "one-file", "0.9.0", supervisor=single))
    pid = host.call("status")["pid"]
    take(host, port, small_release.small(artefacts / "one-file", "0.9.1"))
    status = host.call("status")
    assert (status["pid"], status["version"]) == (pid, "0.9.1")
    assert status["supervisor_sha256"] != small_release._sha256(single)
    assert len(folders(host)) == 1
    host.call("reload", version="0.9.0", bake_s=0.2, action="rollback")
    status = host.call("status")
    assert (status["pid"], status["version"]) == (pid, "0.9.0")
    assert status["supervisor_sha256"] == small_release._sha256(single)
    assert folders(host) == []
    assert "kept" not in {event["event"] for event in host.events}


@pytest.mark.slow
def test_an_agent_of_the_release_before_takes_this_one_and_goes_back(
    host: HostCalls, quick_python: Path, port: int, artefacts: Path
) -> None:
    """It knows of no folder; the one of the release is run, until this release's own agent comes."""
    agent = host.root.parent / "host.py"
    agent.write_bytes(supervisors.one_file("release/host.py"))
    before = HostCalls(host.root, python=quick_python, agent=agent)
    single = supervisors.one_file()
    take(before, port, small_release.small(artefacts / "before", "0.8.0", supervisor=single))
    pid = host.call("status")["pid"]
    newer = small_release.small(artefacts / "before", "0.8.1")
    take(before, port, newer)
    status = host.call("status")
    assert (status["pid"], status["version"]) == (pid, "0.8.1")
    assert status["supervisor_sha256"] != small_release._sha256(single)
    assert folders(host) == []
    assert take(host, port, newer)["unchanged"]
    assert len(folders(host)) == 1
    before.call("reload", version="0.8.0", bake_s=0.2, action="rollback")
    status = host.call("status")
    assert (status["pid"], status["version"]) == (pid, "0.8.0")
    assert status["supervisor_sha256"] == small_release._sha256(single)


def test_a_folder_of_the_supervisor_that_was_changed_is_put_right(
    host: HostCalls, port: int, good: list[Small]
) -> None:
    """By any reload, also one to what serves; half a folder of a killed deploy goes, too."""
    take(host, port, good[0])
    (folder,) = (host.root / "shared").glob("supervisor-*")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "worker.py").unlink()
    (folder / "__pycache__").mkdir()
    (host.root / f"shared/supervisor-{'0' * 64}.part-3fa9c1b2").mkdir()
    (host.root / f"shared/supervisor-{'1' * 64}").symlink_to("nowhere")
    assert take(host, port, good[0])["unchanged"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert folders(host) == [folder.name]


@pytest.mark.slow
@pytest.mark.parametrize("event", ["spawned", "ready", "baking"])  # test_host_start has one that is not slow
def test_killed_in_the_middle_of_a_reload_the_next_call_ends_it(
    host: HostCalls, port: int, good: list[Small], event: str
) -> None:
    """The supervisor goes on by itself; links may be behind, which the next call puts right."""
    take(host, port, good[0])
    host.call("unpack", **good[1].request())
    process = host.start("reload", version="1.1.0", bake_s=0.3)
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line).get("event") == event:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    wait_until(lambda: host.call("status")["state"] == "serving", what="the reload being over")
    host.call("reload", version="1.1.0", bake_s=0.2)
    assert (served(port), host.linked("current")) == ("1.1.0", "releases/1.1.0")
    assert host.linked("previous") == "releases/1.0.0"


def test_stop_ends_the_engine_and_is_nothing_the_second_time(
    host: HostCalls, port: int, good: list[Small]
) -> None:
    take(host, port, good[0])
    assert not host.call("stop")["unchanged"]
    assert host.call("stop")["unchanged"]
    with pytest.raises(OSError, match="refused"):
        served(port)
    assert take(host, port, good[0])["started"]
