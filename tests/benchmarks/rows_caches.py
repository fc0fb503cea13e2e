"""Rows of the way out: purges that caches answer, memory while they wait, and bodies that are drained."""

import json
import time
from collections.abc import Callable, Iterator

from release.lab.caches import Cache
from tests.benchmarks.figures import Figure, Side, beside, cpu_of_unit
from tests.benchmarks.harness import HOST, Bench, Clock, in_turn, rss, wait_until_idle
from tests.benchmarks.peering import NO_GO, go_version, run_go, run_peer
from tests.rigs.engine_process import EngineProcess, node_table
from tests.rigs.redis_servers import RedisServer
from tests.waiting import wait_until

GO_WORKERS = 8
_GO_PURGER = f"Go, one request a round trip, {GO_WORKERS} workers"
_CPU_TARGET_US = 5.5
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
    """Five tasks of 10,000 URLs on one node, acked and tracked, beside clients that only send.

    Two are usual ones; the third sends as purgers in Go do, by workers that wait for each answer.
    """
    for driver in ("varnish", "nginx", "ats"):
        with bench.cache(driver) as cache, bench.engine(node_table(cache, name="edge-1")) as engine:
            yield from _fanout(bench, cache, engine, driver)


def _fanout(bench: Bench, cache: Cache, engine: EngineProcess, driver: str) -> Iterator[Figure]:
    numbers = iter(range(1000))
    base = f"http://127.0.0.1:{cache.port}{cache.purge_path}"
    ours = Side()
    peers = {"aiohttp, 64 connections": Side()}
    if driver == "varnish":
        peers |= {"httpx, 64 connections": Side(), _GO_PURGER: Side()}

    def purge() -> float:
        ours.done += TASKS * TARGETS
        return acks_per_s(engine, numbers)

    def client(peer: str) -> float:
        side, name = peers[peer], f"p{next(numbers)}"
        if peer == _GO_PURGER:
            where = (f"127.0.0.1:{cache.port}", cache.purge_path)
            return run_go("purge", "PURGE", *where, TASKS * TARGETS, name, GO_WORKERS, side=side)
        kind = peer.partition(",")[0]
        return run_peer(
            "purge.py", kind, "PURGE", base, TARGETS // (5 if kind == "httpx" else 1), name, side=side
        )

    case = f"tasks of 10,000 URLs on {driver}"
    if _GO_PURGER in peers and not go_version():
        del peers[_GO_PURGER]
    purge()
    ours.done = 0
    in_turn(
        bench.rounds,
        (purge, ours, [engine.pid]),
        *((lambda peer=peer: client(peer), side, ()) for peer, side in peers.items()),
    )
    targets = {"aiohttp, 64 connections": 10.0, _GO_PURGER: 2.0} if driver == "varnish" else {}
    for peer, side in peers.items():
        what = "" if peer.startswith("aiohttp") else f" ({peer.partition(',')[0]})"
        yield beside("fanout", case + what, "acks/s", ours, peer, side, least=targets.get(peer))
    if driver == "varnish":
        if _GO_PURGER not in peers:
            yield Figure("fanout", f"{case} (Go)", ours.median, "acks/s", _GO_PURGER, note=NO_GO)
        yield cpu_of_unit("fanout", f"CPU of a purge, {case}", "us a purge", ours, most_us=_CPU_TARGET_US)


def hand_in(
    engine: EngineProcess, name: str, *, tasks: int, urls: int = 100, is_checked: bool = True
) -> float:
    """Hand in many tasks and wait until all is stored as settled; return purges at nodes per second.

    Without *is_checked* nobody asks whether all were acked (the list of nodes asks the store, too), and it
    returns 0.
    """
    lines = [
        json.dumps({"targets": [f"http://{HOST}/{name}/{task}/{place}.jpg" for place in range(urls)]})
        for task in range(tasks)
    ]
    before = _acked(engine) if is_checked else 0
    began = time.perf_counter()
    for place in range(0, tasks, 100):
        body = "\n".join(lines[place : place + 100]).encode()
        status, _, text = engine.request("POST", "/v1/engine/tasks", body)
        assert status == 200, text[:300]
        assert b'"status"' not in text, text[:300]
    wait_until_idle(engine)
    took_s = time.perf_counter() - began
    if not is_checked:
        return 0.0
    acked = _acked(engine) - before
    wanted = tasks * urls * len(engine.get("/v1/engine/nodes")["nodes"])
    assert acked == wanted, f"{acked} of {wanted} purges acked"
    return acked / took_s


def _acked(engine: EngineProcess) -> int:
    return sum(node["acked"] for node in engine.get("/v1/engine/nodes")["nodes"])


def end_to_end(bench: Bench) -> Iterator[Figure]:
    """Tasks of 100 URLs on a parent and two edges, until settled in the store, beside jobs of queues."""
    tasks = 100 if bench.is_quick else 400
    shapes = {"a job a URL": (3000, 1), "a job of 100 URLs": (100, 100)}
    with bench.site() as (engine, nodes), RedisServer(bench.new_folder("redis")) as redis:
        hand_in(engine, "warm", tasks=20)
        numbers = iter(range(1000))
        ours = Side()
        peers = {(queue, shape): Side() for queue in ("arq", "saq") for shape in shapes}
        urls = [node.url for node in nodes]

        def peer(queue: str, shape: str, side: Side) -> float:
            redis.flush()
            jobs, each = shapes[shape]
            jobs = jobs // 3 if bench.is_quick else jobs
            return run_peer(f"{queue}_jobs.py", redis.port, jobs, each, *urls, side=side)

        in_turn(
            bench.rounds,
            (lambda: hand_in(engine, f"e{next(numbers)}", tasks=tasks), ours, [engine.pid]),
            *(
                (lambda queue=queue, shape=shape, side=side: peer(queue, shape, side), side, [redis.pid])
                for (queue, shape), side in peers.items()
            ),
        )
    for (queue, shape), side in peers.items():
        is_target = (queue, shape) == ("arq", "a job a URL")
        case = "tasks of 100 URLs, parent and 2 edges" + ("" if is_target else f" ({queue}, {shape})")
        figure = beside(
            "end-to-end",
            case,
            "node-purges/s",
            ours,
            f"{queue}, {shape}",
            side,
            least=50 if is_target else None,
        )
        if is_target:
            figure.target = f">= 40,000/s, {figure.target}"
            figure.ok = bool(figure.ok) and ours.median >= 40_000
        yield figure


def memory(bench: Bench) -> Iterator[Figure]:
    """A million subtasks while the node hangs; what is given back; how fast they go once it answers."""
    total = 100_000 if bench.is_quick else 1_000_000
    urls = 10_000
    settings = {"live_subtasks_max": 2 * total, "request_timeout_s": 600}
    with bench.cache() as cache, bench.engine(node_table(cache, name="edge-1"), **settings) as engine:
        engine.wait_for(engine.submit([f"http://{HOST}/w/{place}" for place in range(urls)]))
        small = Side()
        for turn in range(10 * bench.rounds):
            small.values.append(backlog_rate(engine, cache, f"s{turn}", tasks=1, urls=1000))
        wait_until_idle(engine)
        before = rss(engine.pid)
        clock, side = Clock(engine.pid), Side()
        full: list[int] = []
        big = backlog_rate(
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


def backlog_rate(
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
        timeout_s=600,
        what="all being expanded",
    )
    when_full()
    began = time.time()
    cache.resume()
    last = max(float(engine.wait_for(task_id, timeout_s=600)["updated_at"]) for task_id in ids)
    return tasks * urls / (last - began)
