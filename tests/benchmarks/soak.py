"""A long run at half of the peak with a node restarted now and then: everything has to stay flat.

``python -m tests.benchmarks.soak [--minutes 30] [--out soak.json]`` writes samples and a plot, and says how
memory, descriptors, threads and latency went from the first half to the second, and what became of the tasks.
"""

import argparse
import http.client
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from release.lab.caches import Cache
from tests.benchmarks import report
from tests.benchmarks.harness import HERE, HOST, PATH, Bench, bench, counted, rss, url_of, wait_until_idle
from tests.benchmarks.rows_latency import PAUSING, pause_ms, peak_of
from tests.rigs.engine_process import EngineProcess

EVERY_S = 5.0


class Sampler:
    """Looks at the engine every few seconds, and times requests of its own in between."""

    def __init__(self, engine: EngineProcess) -> None:
        self.samples: list[dict[str, float]] = []
        self.over = threading.Event()
        self.began = time.monotonic()
        self._engine = engine

    def run(self) -> None:
        """Do so until `over` is set."""
        count = counted(self._engine, "tasks_accepted")
        while not self.over.is_set():
            until = time.monotonic() + EVERY_S
            took = sorted(self._probe(until))
            now = counted(self._engine, "tasks_accepted")
            self.samples.append(
                {
                    "at_s": round(time.monotonic() - self.began, 1),
                    "rss_mib": rss(self._engine.pid) / 2**20,
                    "descriptors": len(list(Path(f"/proc/{self._engine.pid}/fd").iterdir())),
                    "threads": len(list(Path(f"/proc/{self._engine.pid}/task").iterdir())),
                    "p50_ms": took[len(took) // 2] * 1000,
                    "p99_ms": took[len(took) * 99 // 100] * 1000,
                    "tasks_s": (now - count) / EVERY_S,
                    "delayed": sum(node["delayed"] for node in self._engine.get("/v1/engine/nodes")["nodes"]),
                }
            )
            count = now

    def _probe(self, until: float) -> list[float]:
        connection = http.client.HTTPConnection("127.0.0.1", self._engine.port, timeout=30)
        took = []
        while (now := time.monotonic()) < until:
            body = f'{{"targets":["http://{HOST}/probe/{now}"]}}'
            began = time.perf_counter()
            connection.request("POST", PATH, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 202, text
            took.append(time.perf_counter() - began)
            time.sleep(EVERY_S / 100)
        connection.close()
        return took


def soak(made: Bench, *, minutes: float) -> dict[str, Any]:
    """Run it; return samples, events and what became of the tasks."""
    chooser = random.Random(1)
    events: list[dict[str, Any]] = []
    with made.site() as (engine, nodes), ThreadPoolExecutor(1) as threads:
        peak = peak_of(engine, 5)
        command = ["wrk", "-t2", f"-c{PAUSING}", f"-d{round(minutes * 60)}s", "--timeout", "20s"]
        command += ["-s", "paced.lua", url_of(engine), "--", str(pause_ms(peak))]
        sampler = Sampler(engine)
        with subprocess.Popen(command, cwd=HERE / "wrk", stdout=subprocess.PIPE, text=True) as load:
            sampling = threads.submit(sampler.run)
            while load.poll() is None:
                if _wait(load, chooser.uniform(20, 60)):
                    break
                _restart(chooser.choice(nodes), chooser, sampler, events)
            out = load.communicate()[0]
        sampler.over.set()
        sampling.result()
        wait_until_idle(engine)
        counts = _counts(engine)
    result = next(line for line in out.splitlines() if line.startswith("RESULT"))
    return {
        "peak_tasks_s": peak,
        "wrk": result.removeprefix("RESULT "),
        "counts": counts,
        "events": events,
        "samples": sampler.samples,
    }


def _wait(load: "subprocess.Popen[str]", seconds: float) -> bool:
    """Wait; tell whether the load is over."""
    try:
        load.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _restart(node: Cache, chooser: random.Random, sampler: Sampler, events: list[dict[str, Any]]) -> None:
    events.append({"at_s": round(time.monotonic() - sampler.began, 1), "node": node.name})
    node.kill()
    time.sleep(chooser.uniform(0.5, 5))
    node.start()


def _counts(engine: EngineProcess) -> dict[str, int]:
    names = ("tasks_accepted", "tasks_done", "tasks_partial", "tasks_failed", "tasks_cancelled")
    return {name: counted(engine, name) for name in names}


def judge(found: dict[str, Any]) -> list[str]:
    """Say how each value went from the first half to the second, the first minute aside."""
    samples = [one for one in found["samples"] if one["at_s"] > min(60.0, found["samples"][-1]["at_s"] / 4)]
    half = len(samples) // 2
    lines = []
    for key in ("rss_mib", "descriptors", "threads", "p50_ms", "p99_ms", "tasks_s"):
        first, second = (
            statistics.median(one[key] for one in part) for part in (samples[:half], samples[half:])
        )
        lines.append(
            f"{key:12} {first:10.1f} -> {second:10.1f}   most {max(one[key] for one in samples):.1f}"
        )
    return lines


def main(argv: Sequence[str]) -> int:
    """Run, print and draw."""
    parser = argparse.ArgumentParser(prog="tests.benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--out", type=Path, default=Path("soak.json"))
    args = parser.parse_args(argv)
    uvloop.install()
    with bench(is_quick=False) as made:
        found = soak(made, minutes=args.minutes)
    args.out.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    peak, restarts = found["peak_tasks_s"], len(found["events"])
    print(f"{args.minutes:g} minutes at half of {peak:,.0f} tasks/s, {restarts} restarts of nodes")
    print("wrk:", found["wrk"])
    print("tasks:", found["counts"])
    print("\n".join(judge(found)))
    print("plot:", report.chart(args.out, "soak"))
    counts = found["counts"]
    is_good = counts["tasks_accepted"] == counts["tasks_done"] and not counts["tasks_failed"]
    is_good = is_good and " status=0 connect=0 read=0 write=0 timeout=0 " in found["wrk"]
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
