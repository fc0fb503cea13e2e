"""The operation ``shadow`` on a host: two real engines answer a recording, reach nobody, leave nothing."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from release.agent.shadow_engine import Shadow, spared
from release.lab.caches import free_port
from tests.fakes import small_release
from tests.fakes.node import FakeNode
from tests.fakes.recorded import tasks
from tests.rigs.host_calls import HostCalls, Refusal
from tests.waiting import wait_until

CONFIG = """\
[engine]
listen = "127.0.0.1:{port}"
[store]
url = "redis://127.0.0.1:{redis}/0"
[[auth.tokens]]
name = "cms"
sha256 = "{digest}"
[[site]]
host = "img.example.com"
[[layer]]
name = "parent"
[[layer]]
name = "edge"
[[callback]]
host = "127.0.0.1"
[alert]
url = "{cache}"
[canary]
interval_s = 1
[[door]]
kind = "purge"
name = "door"
listen = "127.0.0.1:{door}"
[[node]]
name = "p1"
layer = "parent"
driver = "varnish"
url = "{cache}"
[[node]]
name = "n1"
driver = "nginx"
url = "{cache}"
headers = {{ X-Secret = "of-the-cache" }}
[[node]]
name = "a1"
driver = "ats"
url = "{cache}"
rules_file = "{rules}"
rules_state_file = "{rules}.state"
[[node]]
name = "s1"
driver = "squid"
url = "{cache}"
"""

NOBODY = (65534, 65534)


class Place:
    """A host where 1.0 and others are unpacked, with a configuration that names what must not be reached."""

    def __init__(self, host: HostCalls, folder: Path, cache: FakeNode) -> None:
        self.host = host
        self.folder = folder
        self.cache = cache
        self.rules = folder / "rules"
        ports = {name: free_port() for name in ("port", "door", "redis")}
        self.config = CONFIG.format(**ports, digest="0" * 64, cache=cache.url, rules=self.rules)

    def unpack(self, version: str, **behaviour: Any) -> None:
        artefact = small_release.small(self.folder / "artefacts", version, **behaviour)
        self.host.call("unpack", **artefact.request())
        path = self.host.root / "shared/engine.toml"
        path.write_text(self.config)

    def request(self, requests: int, *, new: str = "1.1", **more: Any) -> dict[str, Any]:
        file = self.folder / "t.gor"
        file.write_bytes(tasks(min(requests, 200), callback=f"{self.cache.url}/told"))
        size = min(100, requests)
        asked = {"file": str(file), "was": "1.0", "version": new, "timeout_s": 100, "ready_s": 60}
        return {**asked, "requests": requests, "slice": size, "slices": -(-requests // size), **more}

    @property
    def left(self) -> list[str]:
        """What runs of the releases here, and the folder if it is there."""
        listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        found = [line for line in listed.splitlines() if str(self.host.root / "releases") in line]
        return found + [str(path) for path in self.host.root.glob("shadow*")]


@pytest.fixture
def place(host: HostCalls, tmp_path: Path) -> Iterator[Place]:
    with FakeNode() as cache:
        yield Place(host, tmp_path, cache)


def test_two_versions_answer_a_recording_and_reach_nobody(place: Place) -> None:
    """Tasks of four kinds of caches settle; no cache, Redis, callback or alert is asked; nothing stays."""
    place.unpack("1.0")
    place.unpack("1.1", fault="500")
    before = sorted(place.host.root.rglob("*"))
    answer = place.host.call("shadow", **place.request(200))
    report = answer["report"]
    assert (report["compared"], report["different"]) == (200, 2), report
    assert report["changes"] == [{"beside": 202, "engine": 500, "count": 2}]
    assert (report["results_compared"], report["results_different"]) == (198, 0), report["results"]
    assert report["beside"]["same"] == 200
    assert answer["cpu_s"]["beside"] > 0
    assert (place.cache.requests, place.cache.connections) == ([], 0)
    assert not place.rules.exists()
    assert place.left == []
    assert sorted(place.host.root.rglob("*")) == before
    assert [event["message"] for event in place.host.events if event["event"] == "slice"][-1] == (
        "slice 2 of 2 is played"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another account")
def test_an_engine_owns_its_data_alone_of_what_root_works_in(tmp_path: Path) -> None:
    """So it cannot put a link where root makes, opens or reads a file."""
    made = Shadow("1.0", tmp_path / "engine", Path(sys.executable), NOBODY)
    made.configure({}, sink="http://127.0.0.1:1", token="t")
    owners = {path.name: path.stat().st_uid for path in [tmp_path / "engine", *tmp_path.glob("engine/*")]}
    assert owners == {"engine": 0, "engine.toml": NOBODY[0], "var": NOBODY[0]}


def test_a_log_is_never_what_a_link_points_at(tmp_path: Path) -> None:
    aim = tmp_path / "aim"
    (tmp_path / "log").symlink_to(aim)
    with pytest.raises(FileExistsError):
        spared(["true"], tmp_path, (os.geteuid(), os.getegid()), log=tmp_path / "log")
    assert not aim.exists()


def test_what_is_started_for_a_comparison_leaves_the_machine_to_what_serves(tmp_path: Path) -> None:
    """Of CPU, disk and memory."""
    told = "cat /proc/self/oom_score_adj; nice; ionice; ulimit -d"
    log, owner = tmp_path / "log", (os.geteuid(), os.getegid()) if os.geteuid() else NOBODY
    process = spared(["sh", "-c", told], tmp_path, owner, log=log)
    assert process.wait(10) == 0
    oom, nice, disk, memory_kib = log.read_text().splitlines()
    assert (oom, nice, disk) == ("1000", str(os.nice(0) + 5), "idle")
    whole_kib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024
    assert 0 < int(memory_kib) <= max(512 * 1024, whole_kib / 4)


@pytest.mark.slow
def test_a_shadow_that_does_not_start_is_told_with_its_last_words(place: Place) -> None:
    place.unpack("1.0")
    place.unpack("1.1", fault="start")
    with pytest.raises(Refusal, match=r"the shadow of 1\.1 does not start.*made so") as refused:
        place.host.call("shadow", **place.request(10))
    assert refused.value.kind == "shadow"
    assert place.left == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_was_started_ends_with_the_operation(place: Place, number: signal.Signals) -> None:
    place.unpack("1.0")
    place.unpack("1.1")
    process = place.host.start("shadow", **place.request(20_000))
    assert process.stdout is not None
    with contextlib.closing(process.stdout), contextlib.closing(process.stderr):  # type: ignore[type-var]
        while (line := json.loads(process.stdout.readline())).get("event") != "slice":
            assert "event" in line, line
        assert len(place.left) > 3
        os.kill(process.pid, number)
        process.wait(10)
        wait_until(lambda: not place.left, what="the end of the shadows")


@pytest.mark.slow
def test_a_comparison_that_nobody_waits_for_ends(place: Place) -> None:
    """As after a controller that was killed, or whose connection is gone."""
    place.unpack("1.0")
    place.unpack("1.1")
    process = place.host.start("shadow", **place.request(20_000))
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    process.communicate(timeout=60)
    assert process.returncode == 1
    assert place.left == []


@pytest.mark.slow
def test_a_comparison_that_takes_too_long_ends(place: Place) -> None:
    place.unpack("1.0")
    place.unpack("1.1")
    with pytest.raises(Refusal, match="shadow_timeout_s"):
        place.host.call("shadow", **place.request(20_000, timeout_s=5))
    assert place.left == []
