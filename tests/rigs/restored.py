"""``python -m tests.rigs.restored``: a Varnish, restored from a snapshot, is rewound, and nothing is stale.

Two Varnishes stand for one: what the first has when the second takes its place is what a snapshot of that
moment has. The pages are purged while the second one answers; then the first is there again.
"""

from __future__ import annotations

import argparse
import http.client
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from release.lab import caches
from release.lab.origin import Origin
from tests.fakes.proxy import Proxy
from tests.rigs.engine_process import EngineProcess
from tests.waiting import wait_until

if TYPE_CHECKING:
    from release.lab.caches import Cache

HOST = "img.example.com"


class Outcome(NamedTuple):
    """What came of it."""

    stale_before: int  #: pages that the restored cache served as of before their purges
    stale_after: int  #: when it had been rewound
    targets: int
    rewound_s: float  #: from the request until the last task was done
    new_done_s: float  #: the slowest of the purges that were handed in meanwhile


def rewound(folder: Path, *, objects: int, rate_per_s: float) -> Outcome:
    """Take a snapshot, purge *objects* pages, bring the snapshot back, and rewind it."""
    paths = [f"/{number}" for number in range(objects)]
    with (
        Origin() as origin,
        caches.start_varnish(folder / "snapshot", name="edge-1", backend=origin.address) as snapshot,
        caches.start_varnish(folder / "live", name="edge-1", backend=origin.address) as live,
        Proxy(snapshot.port) as proxy,
        EngineProcess(folder, _tables(proxy)) as engine,
    ):
        _read(snapshot, paths)
        proxy.target_port = live.port
        since = time.time()
        proxy.cut()
        proxy.heal()
        wait_until(lambda: engine.node("edge-1")["state"] == "ready", what="the node")
        origin.version = "v2"
        for place in range(0, objects, 50):
            engine.wait_for(
                engine.submit([f"http://{HOST}{path}" for path in paths[place : place + 50]]), "done"
            )
        proxy.target_port = snapshot.port
        proxy.cut()
        proxy.heal()
        wait_until(lambda: engine.node("edge-1")["state"] == "ready", what="the restored node")
        stale_before = _stale(snapshot, paths)
        began = time.monotonic()
        asked = {"node": "edge-1", "since": since, "rate_per_s": rate_per_s}
        status, _, body = engine.request("POST", "/v1/engine/rewind", asked)
        assert status == 202, body
        rewind = json.loads(body)
        slowest = 0.0
        for number in range(10):
            at = time.monotonic()
            engine.wait_for(engine.submit([f"http://{HOST}/new/{number}"]), "done")
            slowest = max(slowest, time.monotonic() - at)
        for task_id in rewind["tasks"]:
            assert engine.wait_for(task_id, timeout_s=600)["state"] == "done"
        took_s = time.monotonic() - began
        return Outcome(stale_before, _stale(snapshot, paths), rewind["targets"], took_s, slowest)


def _tables(proxy: Proxy) -> str:
    return f'[[node]]\nname = "edge-1"\ndriver = "varnish"\nurl = "http://127.0.0.1:{proxy.port}"\n'


def _stale(cache: Cache, paths: list[str]) -> int:
    return sum(body.startswith(b"v1") for body in _read(cache, paths))


def _read(cache: Cache, paths: list[str]) -> list[bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", cache.port, timeout=20)
    bodies = []
    for path in paths:
        connection.request("GET", path, headers={"Host": HOST})
        bodies.append(connection.getresponse().read())
    connection.close()
    return bodies


def main() -> None:
    """Carry it out, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=1000.0, help="targets a second")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = rewound(Path(folder), objects=asked.objects, rate_per_s=asked.rate)
    print(
        f"{asked.objects} pages purged: the restored cache served {found.stale_before} of them stale; "
        f"{found.targets} purges in {found.rewound_s:.2f} s at {asked.rate:g}/s; then it served "
        f"{found.stale_after} stale. Those handed in meanwhile took {found.new_done_s:.3f} s at the most"
    )


if __name__ == "__main__":
    main()
