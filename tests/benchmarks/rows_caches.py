"""Rows of the way out: purges that caches answer, memory while they wait, and bodies that are drained."""

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from release.lab import caches
from release.lab.caches import Cache
from tests.benchmarks.harness import (
    HOST,
    Bench,
    Clock,
    Figure,
    Side,
    in_turn,
    peak_rss,
    rss,
    run_peer,
    short,
    wait_until_idle,
)
from tests.rigs.engine_process import EngineProcess, fake_table, node_table
from tests.rigs.redis_servers import RedisServer
from tests.waiting import wait_until

MIB = 2**20
TASKS, TARGETS = 5, 10_000  #: of one fan-out; a single task is over in a tenth of a second


def settled_s(engine: EngineProcess, task_id: str, timeout_s: float = 120) -> float:
    """Wait for a task; return the seconds from its acceptance to its last ack."""
    task = engine.wait_for(task_id, timeout_s=timeout_s)
    assert task["state"] == "done", task
    return float(task["updated_at"]) - float(task["created_at"])


def acks_per_s(engine: EngineProcess, numbers: Iterator[int]) -> float:
    """Hand in five tasks of 10,000 URLs for one node; return acks a second, from first accept to last ack."""
    names = [next(numbers) for _ in range(TASKS)]
    ids = [engine.submit([f"http://{HOST}/{name}/{place}.jpg" for place in range(TARGETS)]) for name in names]
    tasks = [engine.wait_for(task_id, timeout_s=120) for task_id in ids]
    assert all(task["state"] == "done" for task in tasks), tasks
    took_s = max(float(task["updated_at"]) for task in tasks) - float(tasks[0]["created_at"])
    return TASKS * TARGETS / took_s


def fanout(bench: Bench) -> Iterator[Figure]:
    """Five tasks of 10,000 URLs on one node, acked and tracked, against usual clients that only send."""
    for driver in ("varnish", "nginx", "ats"):
        with bench.cache(driver) as cache, bench.engine(node_table(cache, name="edge-1")) as engine:
            numbers = iter(range(1000))
            base = f"http://127.0.0.1:{cache.port}{cache.purge_path}"
            ours, aiohttp, httpx = Side(), Side(), Side()

            def purge(engine: EngineProcess = engine, numbers: Iterator[int] = numbers) -> float:
                return acks_per_s(engine, numbers)

            def client(
                kind: str, side: Side, share: int = 1, base: str = base, numbers: Iterator[int] = numbers
            ) -> float:
                args = (kind, "PURGE", base, TARGETS // share, f"p{next(numbers)}")
                return run_peer("purge.py", *args, side=side)

            purge()
            sides = [
                (purge, ours, [engine.pid]),
                (lambda: client("aiohttp", aiohttp), aiohttp, ()),  # noqa: B023
            ]
            if driver == "varnish":
                sides.append((lambda: client("httpx", httpx, 5), httpx, ()))  # noqa: B023
            in_turn(bench.rounds, *sides)
            for name, peer in (("aiohttp", aiohttp), ("httpx", httpx)):
                if not peer.values:
                    continue
                ratio = ours.median / peer.median
                is_target = driver == "varnish" and name == "aiohttp"
                yield Figure(
                    "fanout",
                    f"tasks of 10,000 URLs on {driver}" + (" (httpx: 2,000)" if name == "httpx" else ""),
                    ours.median,
                    "acks/s",
                    f"{name}, 64 connections",
                    peer.median,
                    ratio,
                    ">= 10x" if is_target else "",
                    ratio >= 10 if is_target else None,
                    ours.cpu_s,
                    ours.peak_rss_bytes,
                    peer.cpu_s,
                    peer.peak_rss_bytes,
                    ours.spread,
                )


def hand_in(engine: EngineProcess, name: str, *, tasks: int, urls: int = 100) -> float:
    """Hand in many tasks and wait until all is stored as settled; return purges at nodes per second."""
    lines = [
        json.dumps({"targets": [f"http://{HOST}/{name}/{task}/{place}.jpg" for place in range(urls)]})
        for task in range(tasks)
    ]
    before = _acked(engine)
    began = time.perf_counter()
    for place in range(0, tasks, 100):
        body = "\n".join(lines[place : place + 100]).encode()
        status, _, text = engine.request("POST", "/v1/engine/tasks", body)
        assert status == 200, text[:300]
        assert b'"status"' not in text, text[:300]
    wait_until_idle(engine)
    took_s = time.perf_counter() - began
    acked = _acked(engine) - before
    wanted = tasks * urls * len(engine.get("/v1/engine/nodes")["nodes"])
    assert acked == wanted, f"{acked} of {wanted} purges acked"
    return acked / took_s


def _acked(engine: EngineProcess) -> int:
    return sum(node["acked"] for node in engine.get("/v1/engine/nodes")["nodes"])


def end_to_end(bench: Bench) -> Iterator[Figure]:
    """Tasks of 100 URLs on a parent and two edges, until settled in the store, against jobs of arq."""
    tasks = 100 if bench.is_quick else 400
    cases = {"a job a URL": (3000, 1), "a job of 100 URLs": (100, 100)}
    with bench.site() as (engine, nodes), RedisServer(bench.new_folder("redis")) as redis:
        hand_in(engine, "warm", tasks=20)
        numbers = iter(range(1000))
        ours = Side()
        arq = {case: Side() for case in cases}
        urls = [node.url for node in nodes]

        def peer(case: str) -> float:
            redis.flush()
            jobs, each = cases[case]
            jobs = jobs // 3 if bench.is_quick else jobs
            return run_peer("arq_jobs.py", redis.port, jobs, each, *urls, side=arq[case])

        in_turn(
            bench.rounds,
            (lambda: hand_in(engine, f"e{next(numbers)}", tasks=tasks), ours, [engine.pid]),
            *((lambda case=case: peer(case), arq[case], [redis.pid]) for case in cases),
        )
    for case, side in arq.items():
        ratio = ours.median / side.median
        is_target = case == "a job a URL"
        yield Figure(
            "end-to-end",
            "tasks of 100 URLs, parent and 2 edges" + ("" if is_target else " (jobs of 100)"),
            ours.median,
            "node-purges/s",
            f"arq, {case}",
            side.median,
            ratio,
            ">= 40,000/s, >= 30x" if is_target else "",
            ours.median >= 40_000 and ratio >= 30 if is_target else None,
            ours.cpu_s,
            ours.peak_rss_bytes,
            side.cpu_s,
            side.peak_rss_bytes,
            ours.spread,
        )


def memory(bench: Bench) -> Iterator[Figure]:
    """A million subtasks while the node hangs; what is given back; how fast they go once it answers."""
    total = 100_000 if bench.is_quick else 1_000_000
    urls = 10_000
    settings = {"live_subtasks_max": 2 * total, "request_timeout_s": 600}
    with bench.cache() as cache, bench.engine(node_table(cache, name="edge-1"), **settings) as engine:
        engine.wait_for(engine.submit([f"http://{HOST}/w/{place}" for place in range(urls)]))
        small = Side()
        for turn in range(10 * bench.rounds):
            small.values.append(_backlog_rate(engine, cache, f"s{turn}", tasks=1, urls=1000))
        wait_until_idle(engine)
        before = rss(engine.pid)
        clock, side = Clock(engine.pid), Side()
        full: list[int] = []
        big = _backlog_rate(
            engine, cache, "m", tasks=total // urls, urls=urls, when_full=lambda: full.append(rss(engine.pid))
        )
        wait_until_idle(engine)
        clock.stop(side)
        time.sleep(8)  # it is given back some seconds later
        back = (full[0] - rss(engine.pid)) / (full[0] - before)
    each = (full[0] - before) / total
    yield Figure(
        "memory",
        f"{total:,} live subtasks",
        each,
        "bytes each",
        target="<= 400 B each, >= 85 % given back",
        ok=each <= 400 and back >= 0.85,
        cpu_s=side.cpu_s,
        peak_rss_bytes=side.peak_rss_bytes,
        note=f"{back:.0%} of the growth given back",
    )
    yield Figure(
        "growth",
        f"backlog of {total:,}",
        big,
        "acks/s",
        "backlog of 1,000",
        small.median,
        big / small.median,
        ">= 0.9x",
        big / small.median >= 0.9,
        cpu_s=side.cpu_s,
        peak_rss_bytes=side.peak_rss_bytes,
        note=f"1,000: {small.spread}",
    )


def _backlog_rate(
    engine: EngineProcess,
    cache: Cache,
    name: str,
    *,
    tasks: int,
    urls: int,
    when_full: Callable[[], object] = bool,
) -> float:
    """Let a backlog wait for a cache that hangs; return acks per second from the moment it goes on."""
    targets = [[f"http://{HOST}/{name}/{task}/{place}.jpg" for place in range(urls)] for task in range(tasks)]
    cache.pause()
    ids = [engine.submit(some) for some in targets]
    wait_until(
        lambda: not any(engine.get("/v1/engine/stats")[key] for key in ("saver_queue", "input_task_queue")),
        timeout_s=60,
        what="all being expanded",
    )
    when_full()
    began = time.time()
    cache.resume()
    last = max(float(engine.wait_for(task_id, timeout_s=120)["updated_at"]) for task_id in ids)
    return tasks * urls / (last - began)


@contextlib.contextmanager
def file_server(folder: Path) -> Iterator[str]:
    """Run an nginx that sends files of 64 KiB and 256 MiB out of the page cache; yields its URL."""
    port = caches.free_port()
    files = folder / "files"
    files.mkdir()
    (files / "small").write_bytes(b"x" * 64 * 1024)
    with (files / "big").open("wb") as file:
        for _ in range(256):
            file.write(b"x" * MIB)
    (folder / "nginx.conf").write_text(
        "daemon off; worker_processes 1; pid nginx.pid; error_log stderr error;\n"
        "events { worker_connections 1024; }\n"
        "http { access_log off; sendfile on; keepalive_requests 1000000; client_body_temp_path tmp;\n"
        "proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;\n"
        f"server {{ listen 127.0.0.1:{port} backlog=4096; root {files};\n"
        "location ~ ^/small { try_files /small =404; } location ~ ^/big { try_files /big =404; } } }\n"
    )
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    command = [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: _answers(port), what="nginx")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    command = ["curl", "-sf", "-o", "/dev/null", f"http://127.0.0.1:{port}/small"]
    return subprocess.run(command, check=False).returncode == 0


def drain(bench: Bench) -> Iterator[Figure]:
    """Prefetch: whole objects through a node, their bytes read into pooled buffers and let go."""
    at_once = 8
    cases = [("small", 64 * 1024, 3000, 2.0), ("big", 256 * MIB, 8 if bench.is_quick else 16, 1.0)]
    folder = bench.new_folder("files")
    with file_server(folder) as url, bench.engine(
        fake_table(url, name="edge-1"), prefetch_concurrency=at_once
    ) as engine:  # fmt: skip
        for name, size, count, target in cases:
            ours, theirs = Side(), Side()
            numbers = iter(range(1000))

            def fetch(
                name: str = name, size: int = size, count: int = count, numbers: Iterator[int] = numbers
            ) -> float:
                turn = next(numbers)
                targets = [f"http://{HOST}/{name}?{turn}-{place}" for place in range(count)]
                task_id = engine.submit(targets, action="prefetch", due_s=300)
                return size * count / settled_s(engine, task_id)

            fetch(count=at_once)
            in_turn(
                bench.rounds,
                (fetch, ours, [engine.pid]),
                (
                    lambda: run_peer("drain.py", f"{url}/{name}", count, at_once, side=theirs),  # noqa: B023
                    theirs,
                    (),
                ),
            )
            ratio = ours.median / theirs.median
            yield Figure(
                "drain",
                f"{short(size / 1024)} KiB" if size < MIB else f"{size // MIB} MiB",
                ours.median / MIB,
                "MiB/s",
                "aiohttp iter_chunked",
                theirs.median / MIB,
                ratio,
                f">= {target:g}x",
                ratio >= target,
                ours.cpu_s,
                ours.peak_rss_bytes,
                theirs.cpu_s,
                theirs.peak_rss_bytes,
            )
        yield _flat(bench, engine)


def _flat(bench: Bench, engine: EngineProcess) -> Figure:
    """Memory over 10 GiB of bodies."""
    count = 8 if bench.is_quick else 40
    side = Side()
    before = rss(engine.pid)
    clock = Clock(engine.pid)
    targets = [f"http://{HOST}/big?flat-{place}" for place in range(count)]
    settled_s(engine, engine.submit(targets, action="prefetch", due_s=600), timeout_s=300)
    grown = peak_rss(engine.pid) - before
    clock.stop(side)
    return Figure(
        "drain",
        f"memory over {count * 256 // 1024} GiB",
        grown / MIB,
        "MiB grown",
        target="<= 16 MiB",
        ok=grown <= 16 * MIB,
        cpu_s=side.cpu_s,
        peak_rss_bytes=side.peak_rss_bytes,
    )
