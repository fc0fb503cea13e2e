"""``./inv deploy --shadow`` to three hosts by SSH: what differs from the version that serves goes nowhere."""

import re
import signal
from pathlib import Path

import pytest

from tests.fakes.recorded import tasks
from tests.rigs.hosts import needs_hosts
from tests.rigs.site import LISTEN, Site, each

pytestmark = [needs_hosts, pytest.mark.slow]

NODES = """
[[layer]]
name = "parent"
[[layer]]
name = "edge"
[[node]]
name = "p1"
layer = "parent"
driver = "varnish"
url = "http://127.0.0.1:9"
[[node]]
name = "n1"
driver = "nginx"
url = "http://127.0.0.1:9"
"""


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "t.gor"
    path.write_bytes(tasks(1000))
    return path


@pytest.fixture
def gated(site: Site) -> Site:
    """The installation, with two caches that nobody can reach, so that whoever is asked is a sink."""
    for host in site.rig.hosts:
        path = site.inside(host) / "shared/engine.toml"
        path.write_text(f'[engine]\nlisten = "{LISTEN}"\n{NODES}')
    return site


def untouched(site: Site, version: str) -> None:
    """Every host serves what it served, without a reload, and nothing of the shadows is left."""
    assert site.serving() == each(site.base)
    for host in site.rig.hosts:
        assert ("reload", version, True) not in site.history(host)
        assert not (site.inside(host) / "shadow").exists()
        assert not list((site.inside(host) / "cache").glob("shadow*"))


def shown(out: str) -> str:
    return re.sub(r"\s+", " ", out)


def test_a_good_version_goes_to_all_hosts(gated: Site, recording: Path) -> None:
    """The comparison is on the first host alone, and its table is shown."""
    done = gated.deploy(gated.new, "--shadow", str(recording))
    print(done.err)
    assert done.code == 0, done.err
    assert gated.serving() == each(gated.new)
    steps = [host["steps"] for host in done.document["hosts"]]
    assert steps == [["unpack", "shadow", "reload", "watch"], *[["unpack", "reload", "watch"]] * 2]
    assert "other status 0 of 2000 0.00%" in shown(done.err)
    assert f"answered as recorded: 2000 of 2000 by {gated.base}, 2000 of 2000 by {gated.new}" in done.err


@pytest.mark.parametrize(
    ("fault", "batches", "words"),
    [
        ("500", "1,100%", "another status for 20 of 2000 requests, 1.00% (0.50% allowed)"),
        ("slow", "1,100%", " times the CPU time (x 1.30 allowed)"),
        ("results", "100%", "another result for 2000 of 2000 tasks, 100.00% (0.50% allowed)"),
    ],
)
def test_a_version_that_differs_goes_nowhere(
    gated: Site, recording: Path, fault: str, batches: str, words: str
) -> None:
    """Also where all hosts are one batch, and some may fail."""
    version = f"3.{['500', 'slow', 'results'].index(fault)}"
    gated.publish(version, fault=fault)
    bad = gated.run(
        "deploy", "--release", version, "--no-salt", "--yes", "--shadow", str(recording),
        "--batches", batches, "--max-failures", "1",
    )  # fmt: skip
    print(bad.out)
    assert bad.code == 1, bad.err
    assert f"{version} differs from {gated.base}: " in shown(bad.out)
    assert words in shown(bad.out)
    assert "h1 failed, where the versions are compared; no engine was changed" in shown(bad.out)
    if fault == "500":
        assert "POST /v1/engine/task: 202 became 500, recorded 202: made so" in shown(bad.out)
    untouched(gated, version)


def test_a_shadow_that_does_not_start_stops_the_deploy(gated: Site, recording: Path) -> None:
    gated.publish("3.9", fault="start")
    bad = gated.run("deploy", "--release", "3.9", "--no-salt", "--yes", "--shadow", str(recording))
    assert bad.code == 1, bad.err
    assert "the shadow of 3.9 does not start (exit code 1): purgeline: made so" in shown(bad.out)
    untouched(gated, "3.9")


def test_a_controller_that_is_killed_takes_the_shadows_along(gated: Site, recording: Path) -> None:
    """The hosts serve as before, and the next deploy goes on."""
    args = gated.deploy_args(gated.new, "--shadow", str(recording))
    with gated.start("deploy", *args, shadow_requests=1000, shadow_slices=400) as task:
        task.read_until(r"slice [0-9]+ of ")
        task.send(signal.SIGKILL)
    first = gated.inside(gated.rig.hosts[0])
    done = gated.deploy_when_quiet(gated.new)
    assert done.code == 0, done.err
    assert not (first / "shadow").exists()
    assert gated.serving() == each(gated.new)


def test_without_a_version_that_serves_nothing_begins(gated: Site, recording: Path) -> None:
    assert gated.run("stop", "--host", "h1").code == 0
    try:
        refused = gated.deploy(gated.new, "--shadow", str(recording))
        assert refused.code == 3
        assert "--shadow compares with the version that serves, and h1 has none" in refused.err
    finally:
        assert gated.run("reload", "--host", "h1").code == 0
