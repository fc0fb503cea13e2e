"""Real releases on three hosts, with Varnish, under load: no client notices, a bad version never serves."""

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.fakes import artefacts
from tests.rigs import real_site
from tests.rigs.hosts import Hosts, run
from tests.rigs.real_site import HostLoad
from tests.rigs.site import Site


def change(path: str, before: str, after: str) -> Callable[[Path], None]:
    """Return what changes one place of a tree."""

    def apply(tree: Path) -> None:
        text = (tree / path).read_text()
        assert text.count(before) == 1, before
        (tree / path).write_text(text.replace(before, after))

    return apply


READY = "    def not_ready_reason(self) -> str:\n"
RUN = "    orders = read_orders()\n"
ACCEPTING = '                self.report("accepting")\n'
LATER = "                asyncio.get_running_loop().call_later"
SERVE = "            await self._engine.run_until_stopped()\n            self._control.report"
UNTIL_STOPPED = "self._engine.run_until_stopped()"
SERVE_2_S = SERVE.replace(UNTIL_STOPPED, f"asyncio.wait_for({UNTIL_STOPPED}, 2)")
LISTEN = '    listen: str = "127.0.0.1:9181"\n'
VERSION = '            "version": _version.__version__,\n'

#: What a bad version does, where it is changed for that, and the words that say so.
BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "crashes-at-import": (
        change("engine/process/lifecycle.py", "import asyncio\n", "import asyncio\nimport nothing_like_it\n"),
        "nothing_like_it",
    ),
    "crashes-at-start": (
        change("engine/process/worker.py", RUN, f'{RUN}    raise RuntimeError("bad start")\n'),
        "bad start",
    ),
    "crashes-after-2-s": (
        change("engine/process/worker.py", SERVE, SERVE_2_S),
        "the worker gives up: TimeoutError",
    ),
    "exits-after-2-s": (
        change(
            "engine/process/control.py",
            ACCEPTING,
            f'{ACCEPTING}{LATER}(2, __import__("sys").exit, "no more")\n',
        ),
        "SystemExit: no more",
    ),
    "is-killed-after-2-s": (
        change(
            "engine/process/control.py",
            ACCEPTING,
            f'{ACCEPTING}{LATER}(2, __import__("os")._exit, 9)\n',
        ),
        "exit code 9",
    ),
    "hangs": (
        change("engine/process/worker.py", RUN, f"{RUN}    signal.sigwait([signal.SIGUSR2])\n"),
        "not ready",
    ),
    "answers-503": (
        change("engine/api/readiness.py", READY, f'{READY}        return "made so"\n'),
        "made so",
    ),
    "answers-another-version": (
        change("engine/api/overview.py", VERSION, '            "version": "9.9.9",\n'),
        "9.9.9",
    ),
    "cannot-read-the-configuration": (
        change("engine/config/tables.py", LISTEN, LISTEN.replace("listen:", "listen_on:")),
        "unknown key 'listen'",
    ),
}
LIMITS_S = {"hangs": 4, "answers-503": 20}  #: of those that are waited for in vain

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clone of this project, to be changed and packed."""
    return real_site.clone(tmp_path_factory.mktemp("tree") / "project")


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, trees: Path, fetched_wheels: Path, quick_python: Path
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("real")
    with (
        Hosts(folder / "rig", 3) as rig,
        contextlib.ExitStack() as stack,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("PIP_NO_INDEX", "1")  # the wheels are some of those that have been fetched
        patch.setenv("PIP_FIND_LINKS", " ".join(map(str, fetched_wheels.iterdir())))
        made = Site(rig, folder, python=quick_python)
        made.settings = msgspec.structs.replace(made.settings, step_timeout_s=90)  # busy cores
        artefacts.share_wheels(Path(made.settings.cache_dir), fetched_wheels)
        for host in rig.hosts:
            stack.enter_context(real_site.varnish_on(host))
            real_site.write_config(made, host)
        real_site.publish(trees, "1.0.0", made)
        real_site.commit(trees, "the next one")
        real_site.publish(trees, "1.1.0", made)
        first = made.deploy("1.0.0")
        assert first.code == 0, first.err
        yield made
        made.run("stop", "--host", "h1,h2,h3")


def check(seen: dict[str, Any], *, cut: int = 0) -> None:
    """No request failed, and every task that was accepted is found and done.

    A worker that is killed takes the connections along that it holds: *cut* at the most.
    """
    assert seen["error_count"] <= cut, seen["errors"]
    assert all(error.startswith(("sending: ", "reading: ")) for error in seen["errors"])
    assert seen["states"] == {"done": seen["accepted"]}
    assert seen["accepted"] > 50, "there was load"


def test_a_deploy_to_three_hosts_under_load_is_noticed_by_nobody(site: Site) -> None:
    """36 clients, on kept and new connections; forth and back."""
    with contextlib.ExitStack() as stack:
        loads = [stack.enter_context(HostLoad(host)) for host in site.rig.hosts]
        began = time.monotonic()
        forth = site.deploy("1.1.0")
        assert forth.code == 0, forth.err
        took_s = time.monotonic() - began
        assert set(site.serving().values()) == {"1.1.0"}
        back = site.run("rollback", "--json")
        assert back.code == 0, back.err
        assert set(site.serving().values()) == {"1.0.0"}
        print(f"deploy and rollback: {took_s:.1f} s, {time.monotonic() - began - took_s:.1f} s")
        with ThreadPoolExecutor() as pool:
            saw = list(pool.map(HostLoad.stop, loads))
    for host, seen in zip(site.rig.hosts, saw, strict=True):
        print(host.name, {key: value for key, value in seen.items() if key != "errors"})
        check(seen)


def test_the_doctor_finds_the_host_whose_kernel_leaves_no_ports(site: Site) -> None:
    """Each release looks at its own host; one table names the host, the check and what mends it."""
    ill = site.rig.hosts[1]
    key = "net.ipv4.ip_local_port_range"
    run("ip", "netns", "exec", ill.namespace, "sysctl", "-qw", f"{key}=40000 40007")
    try:
        seen = site.run("doctor")
    finally:
        run("ip", "netns", "exec", ill.namespace, "sysctl", "-qw", f"{key}=32768 60999")
    assert seen.code == 1, seen.err
    rows = [line.split() for line in seen.out.splitlines()]
    verdicts = {row[0]: row[2] for row in rows if row[1] == "all"}
    assert verdicts["h2"] == "fail"
    assert {verdicts["h1"], verdicts["h3"]} <= {"ok", "warn", "not"}  # not known
    [told] = [line for line in seen.out.splitlines() if " fail " in line and " ports " in line]
    assert told.startswith("h2 ")
    assert "(limit: 8)" in told
    assert "engine.tuning" in told
    mended = site.run("doctor", "--host", "h2", "--json")
    checks = {check["name"]: check for check in mended.document["hosts"][0]["answer"]["checks"]}
    names = ("ports", "open_files", "engine", "versions", "nodes", "somaxconn", "listen_drops", "keep_alive")
    known = {name: checks[name]["verdict"] for name in names}
    assert known.pop("keep_alive") in {"ok", "warn", "not known"}  # clients of the test come and go
    assert known.pop("open_files") in {"ok", "warn"}  # as this machine lets its processes
    assert set(known.values()) == {"ok"}, checks


def back_to_files(site: Site) -> None:
    """Have every engine serve 1.0.0 with the configuration that is there now, however far a test has come."""
    done = site.run("reload" if set(site.serving().values()) == {"1.0.0"} else "rollback", "--json")
    assert done.code == 0, done.err


@pytest.mark.slow  # test_cluster reloads engines on a Redis under load, and the first test deploys
@pytest.mark.redis
def test_engines_of_one_redis_are_deployed_one_after_the_other_under_load(site: Site) -> None:
    """36 clients; each engine's tasks are known to the others, before and after."""
    hosts = site.rig.hosts
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(real_site.redis_on_controller(site))
        stack.callback(back_to_files, site)
        for host in hosts:
            stack.callback(real_site.write_config, site, host)
            real_site.write_config(site, host, store=url)
        moved = site.run("reload", "--json")
        assert moved.code == 0, moved.err
        loads = [stack.enter_context(HostLoad(host)) for host in hosts]
        done = site.deploy("1.1.0")
        assert done.code == 0, done.err
        assert set(site.serving().values()) == {"1.1.0"}
        with ThreadPoolExecutor() as pool:
            saw = list(pool.map(HostLoad.stop, loads))
        for host, seen in zip(hosts, saw, strict=True):
            print(host.name, {key: value for key, value in seen.items() if key != "errors"})
            check(seen)
        cluster = json.loads(real_site.ask(hosts[0], "/v1/engine/cluster"))
        assert (cluster["pending"], cluster["pending_of_nobody"]) == (0, 0)
        assert len({one["host"] for one in cluster["engines"] if one["state"] == "alive"}) == 3
        assert {one["version"] for one in cluster["engines"] if one["state"] == "alive"} == {"1.1.0"}
        assert [one["leader"] for one in cluster["engines"]].count(True) == 1


@pytest.mark.slow
def test_a_recording_of_production_is_the_gate_of_the_next_version(site: Site, tmp_path: Path) -> None:
    """Recorded on a host under load, as an operator does; played at both versions while the load goes on."""
    host = site.rig.hosts[0]
    file = tmp_path / "traffic.gor.gz"
    with HostLoad(host) as load:
        record = [str(site.inside(host) / "releases/1.0.0/venv/bin/python"), "-I", "-m", "engine", "record"]
        options = ["--output-file", str(file), "--duration", "20", "--engine", "http://127.0.0.1:9181"]
        made = subprocess.run(host.command(*record, *options), capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
        gated = site.run("deploy", "--release", "1.1.0", "--no-salt", "--yes", "--shadow", str(file))
        seen = load.stop()
    print(made.stdout, gated.err, gated.out)
    assert gated.code == 0, gated.err + gated.out
    assert set(site.serving().values()) == {"1.1.0"}
    back_to_files(site)
    check(seen)


@pytest.mark.slow  # scripted workers do the same in `test_host_reload` and `test_deploy_hosts`
@pytest.mark.parametrize("what", BAD)
def test_a_bad_version_never_serves_and_says_why(site: Site, trees: Path, what: str) -> None:
    """Refused or taken back at the canary, with the reason on the screen; the others were not touched."""
    apply, words = BAD[what]
    version = f"2.{list(BAD).index(what)}.0"
    kept = {
        path: (trees / path).read_text()
        for path in (
            "engine/api/overview.py",
            "engine/api/readiness.py",
            "engine/config/tables.py",
            "engine/process/control.py",
            "engine/process/lifecycle.py",
            "engine/process/worker.py",
        )
    }
    try:
        apply(trees)
        real_site.commit(trees, what)
        real_site.publish(trees, version, site)
    finally:
        for path, text in kept.items():
            (trees / path).write_text(text)
    with HostLoad(site.rig.hosts[0]) as load:
        limit_s = LIMITS_S.get(what, 60)
        bad = site.run(
            "deploy", "--release", version, "--no-salt", "--yes", reload_timeout_s=limit_s, bake_s=4
        )
        seen = load.stop()
    assert bad.code == 1, bad.err
    shown = re.sub(r"\s+", " ", bad.out + bad.err)
    assert words in shown, shown
    assert set(site.serving().values()) == {"1.0.0"}
    check(seen, cut=20 if what == "is-killed-after-2-s" else 0)
    assert not [entry for entry in site.history(site.rig.hosts[1]) if entry[1] == version]
    print(json.dumps({"what": what, "requests": seen["requests"], "errors": seen["error_count"]}))
