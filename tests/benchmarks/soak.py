"""``./inv bench --soak``: a long run at half of the peak, on Varnish, nginx and ATS side by side.

Everything has to stay flat: of memory, descriptors, threads, latency and tasks a second it prints medians of
five minutes, and whether those after ten minutes are within 10 % of their own median. No task may be lost.
``--minutes`` makes all of it shorter in proportion. ``--restarts`` kills a cache now and then and starts it
again; memory then goes with what is delayed. Samples and a plot are written.
"""

import argparse
import contextlib
import http.client
import math
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import uvloop

from release.lab.caches import Cache
from tests.benchmarks import report
from tests.benchmarks.harness import HERE, HOST, PATH, Bench, bench, counted, rss, url_of, wait_until_idle
from tests.benchmarks.rows_latency import PAUSING, pause_ms, peak_of
from tests.rigs.engine_process import EngineProcess, node_table

EVERY_S = 5.0
DRIVERS = ("varnish", "nginx", "ats")
WINDOWS = 6  #: of a run; five minutes each in half an hour
SETTLING = 2  #: windows in which memory may still grow
WITHIN = 0.1  #: of their median are the others, where a value is flat
VALUES = ("rss_mib", "descriptors", "threads", "p50_ms", "p99_ms", "tasks_s")


class Sampler:
    """Looks at the engine every few seconds, and times requests of its own in between."""

    def __init__(self, engine: EngineProcess, *, every_s: float) -> None:
        self._every_s = every_s
        self.samples: list[dict[str, float]] = []
        self.failed: list[str] = []  #: requests, or whole samples, that went wrong
        self.over = threading.Event()
        self.began = time.monotonic()
        self._engine = engine

    def run(self) -> None:
        """Do so until `over` is set; what goes wrong is noted, and the run goes on."""
        count, at = counted(self._engine, "tasks_accepted"), time.monotonic()
        while not self.over.is_set():
            try:
                took = sorted(self._probe(time.monotonic() + self._every_s))
                now, then = counted(self._engine, "tasks_accepted"), time.monotonic()
                self.samples.append(self._sample(took) | {"tasks_s": (now - count) / (then - at)})
                count, at = now, then
            except (OSError, http.client.HTTPException, AssertionError, RuntimeError) as exc:
                self.failed.append(f"{time.monotonic() - self.began:.0f} s: {type(exc).__name__}: {exc}")
                self.over.wait(self._every_s)

    def _sample(self, took: Sequence[float]) -> dict[str, float]:
        pid = self._engine.pid
        return {
            "at_s": round(time.monotonic() - self.began, 1),
            "rss_mib": rss(pid) / 2**20,
            "descriptors": len(list(Path(f"/proc/{pid}/fd").iterdir())),
            "threads": len(list(Path(f"/proc/{pid}/task").iterdir())),
            "p50_ms": took[len(took) // 2] * 1000,
            "p99_ms": took[len(took) * 99 // 100] * 1000,
            "delayed": sum(node["delayed"] for node in self._engine.get("/v1/engine/nodes")["nodes"]),
        }

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
            time.sleep(self._every_s / 100)
        connection.close()
        return took


@contextlib.contextmanager
def site(made: Bench) -> Iterator[tuple[EngineProcess, list[Cache]]]:
    """Run a cache of each kind, side by side, and an engine."""
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(made.cache(driver, f"{driver}-1")) for driver in DRIVERS]
        tables = "".join(node_table(node, name=node.name) for node in nodes)
        yield stack.enter_context(made.engine(tables)), nodes


def soak(made: Bench, *, minutes: float, restarts: bool) -> dict[str, Any]:
    """Run it; return samples, events and what became of the tasks."""
    chooser = random.Random(1)
    events: list[dict[str, Any]] = []
    with site(made) as (engine, nodes), ThreadPoolExecutor(1) as threads:
        peak = peak_of(engine, 5)
        command = ["wrk", "-t2", f"-c{PAUSING}", f"-d{round(minutes * 60)}s", "--timeout", "20s"]
        command += ["-s", "paced.lua", url_of(engine), "--", str(pause_ms(peak))]
        sampler = Sampler(engine, every_s=min(EVERY_S, minutes * 2))
        with subprocess.Popen(command, cwd=HERE / "wrk", stdout=subprocess.PIPE, text=True) as load:
            sampling = threads.submit(sampler.run)
            while restarts and not _wait(load, chooser.uniform(20, 60)):
                _restart(chooser.choice(nodes), chooser, sampler, events)
            out = load.communicate()[0]
        sampler.over.set()
        sampling.result()
        wait_until_idle(engine, timeout_s=600)
        counts = _counts(engine)
    result = next((line for line in out.splitlines() if line.startswith("RESULT")), "RESULT none")
    return {
        "peak_tasks_s": peak,
        "minutes": minutes,
        "compiled": made.compiled,
        "wrk": result.removeprefix("RESULT "),
        "counts": counts,
        "events": events,
        "failed": sampler.failed,
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


class Flatness(NamedTuple):
    """How one value went, in medians of windows."""

    name: str
    medians: list[float]
    settled: list[float]  #: those after the time to settle
    most: float  #: of all samples

    @property
    def off(self) -> float:
        """How far the settled medians are from their own median, the farthest, as a share of it."""
        middle = statistics.median(self.settled)
        return max(abs(one - middle) for one in self.settled) / middle if middle else 0.0

    @property
    def is_flat(self) -> bool:
        return self.off <= WITHIN


def judge(samples: Sequence[Mapping[str, float]], *, minutes: float) -> list[Flatness]:
    """Return how each value went.

    Args:
        samples: in order of time, each with ``at_s``.
        minutes: of the run; windows and the time to settle are a sixth and a third of it.
    """
    window_s = minutes * 60 / WINDOWS
    windows: list[list[Mapping[str, float]]] = [[] for _ in range(WINDOWS)]
    for one in samples:
        windows[min(WINDOWS - 1, int(one["at_s"] / window_s))].append(one)
    made = []
    for name in VALUES:
        medians = [
            statistics.median(one[name] for one in window) if window else math.nan for window in windows
        ]
        settled = [median for median in medians[SETTLING:] if not math.isnan(median)]
        made.append(Flatness(name, medians, settled, max(one[name] for one in samples)))
    return made


def verdict(found: Sequence[Flatness]) -> list[str]:
    """Return a line for each value: its medians, how far the settled ones are apart, whether that is flat."""
    return [
        f"{one.name:12} {' '.join(f'{median:9.1f}' for median in one.medians)}  most {one.most:9.1f}"
        f"  {one.off:6.1%} off  {'flat' if one.is_flat else 'NOT FLAT'}"
        for one in found
    ]


def main(argv: Sequence[str]) -> int:
    """Run, print and draw; 1 when something is not flat, or a task or a request failed."""
    parser = argparse.ArgumentParser(prog="tests.benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--quick", action="store_true", help="half a minute: whether it works, no figures")
    parser.add_argument("--restarts", action="store_true", help="kill caches and start them again")
    parser.add_argument("--out", type=Path, default=Path("soak.json"))
    args = parser.parse_args(argv)
    if args.quick:
        args.minutes = 0.5
    uvloop.install()
    print(report.environment(), flush=True)
    with bench(is_quick=False) as made:
        found = soak(made, minutes=args.minutes, restarts=args.restarts)
    args.out.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    if not found["samples"]:
        print(f"no sample could be taken: {'; '.join(found['failed'][:3])}")
        return 1
    flatness = judge(found["samples"], minutes=args.minutes)
    peak, restarts, counts = found["peak_tasks_s"], len(found["events"]), found["counts"]
    print(
        f"{args.minutes:g} minutes at half of {peak:,.0f} tasks/s on {', '.join(DRIVERS)}, "
        f"{restarts} restarts; compiled: {str(found['compiled']).lower()}"
    )
    print("wrk:", found["wrk"])
    print("tasks:", counts)
    print(
        f"medians of {args.minutes / WINDOWS:g} minutes; flat: within {WITHIN:.0%} after the first {SETTLING}"
    )
    print("\n".join(verdict(flatness)))
    print("plot:", report.chart(args.out, "soak"))
    is_good = counts["tasks_accepted"] == counts["tasks_done"] and not counts["tasks_failed"]
    is_good = is_good and " status=0 connect=0 read=0 write=0 timeout=0 " in found["wrk"]
    is_good = is_good and not found["failed"]
    if not is_good:
        print("tasks or requests failed", *found["failed"][:3], sep="; ")
    is_flat = args.quick or all(one.is_flat for one in flatness)  # seconds tell nothing of that
    return 0 if is_good and is_flat else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
