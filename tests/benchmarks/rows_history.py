"""Rows of the history: what it costs, what it takes on disk, and how long a question takes."""

import contextlib
import functools
import http.client
import itertools
import json
import sqlite3
import statistics
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from engine.base.clock import SteadyClock
from engine.store.history import HistoryLimits
from engine.store.redis.open import redis_store
from engine.store.sqlite.store import SqliteStore
from engine.tasks.blocks import close_block
from engine.tasks.plan import Plan, Step, storable
from engine.tasks.settled import SettledTasks, Shape, encode
from engine.tasks.words import Operation
from tests.benchmarks.figures import Figure, Side
from tests.benchmarks.harness import HOST, Bench, Clock, load
from tests.benchmarks.rows_caches import TARGETS, TASKS, acks_per_s, hand_in
from tests.rigs.engine_process import EngineProcess, node_table
from tests.rigs.redis_servers import RedisServer

_BLOCK = 4096
_REDIS_BLOCK = 2048
_REGIONS = 16
_HOSTS = 200
_LIMITS = HistoryLimits(1e10, 2**50)
_PLAN = storable(
    Plan(tuple(Step(f"edge-{number}", "edge", Operation.PURGE_URL, (), False, "ats") for number in range(3)))
)


def settled(places: Sequence[int], at: float) -> SettledTasks:
    """Return tasks of one URL each, of 200 hosts, a hundredth of a second apart."""
    created = array("d", [at + place / 100 for place in places])
    return SettledTasks(
        [_id(place) for place in places],
        created.tobytes(),
        array("d", [one + 0.01 for one in created]).tobytes(),
        bytes([2]) * len(places),
        array("H", [1]).tobytes() * len(places),
        array("H", [0]).tobytes() * len(places),
        [Shape("purge", "url", False, False, "cms", _PLAN.key, ("cms", "10.0.0.9", "http"))],
        "\n".join(map(_url, places)),
    )


def fill(folder: Path, targets: int) -> int:
    """Write so many settled targets, the last of them settled now, into *folder*; return bytes on disk."""
    store = SqliteStore(folder / "tasks-0.db", clock=SteadyClock(), history=_LIMITS)
    store.open()
    began_at = time.time() - targets / 100
    with contextlib.closing(store):
        history = store.history
        assert history is not None
        for first in range(0, targets, _BLOCK):
            places = range(first, min(first + _BLOCK, targets))
            history._write(close_block([settled(places, began_at)], {_PLAN.key: _PLAN.text}), [])
    with contextlib.closing(sqlite3.connect(folder / "history-0.db")) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (folder / "layout").write_text("workers=1 saver_count=1\n")
    return (folder / "history-0.db").stat().st_size


def fill_redis(server: RedisServer, targets: int) -> int:
    """Write so many settled targets into a Redis, the last of them settled now; return its memory.

    What is too little for a block lies as it was written: a record for each task.
    """
    store = redis_store(server.url, "filling", region_count=_REGIONS, prefix="purgeline", history=_LIMITS)
    store.open()
    began_at = time.time() - targets / 100
    regions: list[list[int]] = [[] for _ in range(_REGIONS)]
    plans = {_PLAN.key: _PLAN.text}
    with contextlib.closing(store):
        link, keys = store.link, store.keys
        for place in range(targets):
            region = keys.region(_id(place))
            places = regions[region]
            places.append(place)
            if len(places) == _REDIS_BLOCK:
                link.one("SET", f"{keys.tags[region]}settled:by", "filling", is_write=True)
                block = close_block([settled(places, began_at)], plans)
                link.one(*store.histories[region]._put(block, "filling"), is_write=True)
                places.clear()
        for region, places in enumerate(regions):
            records = [encode(settled([place], began_at)) for place in places]
            link.one("SET", keys.plan(region, _PLAN.key), _PLAN.text, is_write=True)
            link.one("INCRBY", f"{keys.tags[region]}settled:count", len(records), is_write=True)
            for first in range(0, len(records), 500):
                part = records[first : first + 500]
                link.one("RPUSH", f"{keys.tags[region]}settled", *part, is_write=True)
    return int(server.info("memory")["used_memory"])


def history_costs(bench: Bench) -> Iterator[Figure]:
    """CPU of engines with a history, beside that of engines without one.

    Batches of tasks of one URL are the cheapest way in; they are shown without a target.
    """
    names = itertools.count()

    def requests(engine: EngineProcess, side: Side, connections: int) -> None:
        load(engine, side, seconds=bench.seconds(2), connections=connections)

    def fan_out(engine: EngineProcess, side: Side) -> None:
        acks_per_s(engine, names)
        side.done += TASKS * TARGETS

    def batches(engine: EngineProcess, side: Side, tasks: int, urls: int, unit: int) -> None:
        hand_in(engine, f"h{next(names)}", tasks=tasks, urls=urls)
        side.done += tasks * unit

    with bench.cache("ats") as cache:
        table = node_table(cache, name="edge-1")
        with bench.engine(table, history_days=3) as kept, bench.engine(table, history_days=0) as unkept:
            for connections in (64, 800):
                act = functools.partial(requests, connections=connections)
                yield _cost(bench, f"intake, {connections} connections", "task", act, kept, unkept)
            yield _cost(bench, "fan-out of tasks of 10,000 URLs", "purge", fan_out, kept, unkept)
            act = functools.partial(batches, tasks=8000, urls=1, unit=1)
            yield _cost(bench, "tasks of 1 URL in batches", "task", act, kept, unkept, has_target=False)
    with bench.site(history_days=3) as (kept, _), bench.site(history_days=0) as (unkept, _):
        act = functools.partial(batches, tasks=200, urls=100, unit=300)
        yield _cost(bench, "end to end, tasks of 100 URLs", "purge", act, kept, unkept)


def _cost(
    bench: Bench,
    case: str,
    unit: str,
    act: Callable[[EngineProcess, Side], None],
    kept: EngineProcess,
    unkept: EngineProcess,
    *,
    has_target: bool = True,
) -> Figure:
    """Return the CPU time of a unit; the ratio is the median of pairs, as speeds of machines change."""
    pairs: list[float] = []
    with_history, without = Side(), Side()
    act(kept, Side())
    act(unkept, Side())
    for _ in range(3 if bench.is_quick else 10):
        costs = []
        for engine, whole in ((kept, with_history), (unkept, without)):
            clock, side = Clock(engine.pid), Side()
            act(engine, side)
            clock.stop(side)
            costs.append(side.cpu_us)
            whole.cpu_s += side.cpu_s
            whole.done += side.done
            whole.errors += side.errors
            whole.peak_rss_bytes = max(whole.peak_rss_bytes, side.peak_rss_bytes)
        pairs.append(costs[0] / costs[1])
    ratio = statistics.median(pairs)
    return Figure(
        "history",
        f"CPU, {case}",
        with_history.cpu_us,
        f"us a {unit}",
        "without a history",
        without.cpu_us,
        ratio,
        "<= 1.03x" if has_target else "",
        ratio <= 1.03 if has_target else None,
        with_history.cpu_s,
        with_history.peak_rss_bytes,
        without.cpu_s,
        without.peak_rss_bytes,
        spread=f"pairs {min(pairs):.2f}-{max(pairs):.2f}",
        note=f"errors {with_history.errors + without.errors}",
    )


def history_questions(bench: Bench) -> Iterator[Figure]:
    """How long questions take with ten million targets on disk, after a start, while 100 tasks/s come in."""
    targets = 200_000 if bench.is_quick else 10_000_000
    folder = bench.new_folder("history")
    (folder / "var").mkdir()
    size = fill(folder / "var", targets)
    with bench.cache("ats") as cache:
        with EngineProcess(folder, node_table(cache, name="edge-1")) as engine:
            bench.note_form(engine)
            yield _questions(engine, targets, "SQLite", limit_s=1)
        yield _size("SQLite: disk", size, targets)
        folder = bench.new_folder("history-redis")
        with RedisServer(folder, fsync="none") as server:
            size = fill_redis(server, targets)
            with EngineProcess(folder, redis_tables(server.url) + node_table(cache, name="edge-1")) as engine:
                bench.note_form(engine)
                yield _questions(engine, targets, "Redis", limit_s=2)
            yield _size("Redis: memory", size, targets)


def redis_tables(url: str) -> str:
    """Return the table of a store in which `fill_redis` has written."""
    return f'[store]\nurl = "{url}"\nregion_count = {_REGIONS}\nprefix = "purgeline"\n'


def _questions(engine: EngineProcess, targets: int, store: str, *, limit_s: float) -> Figure:
    """Ask questions while tasks come in; return the slowest."""
    stop = threading.Event()
    feeding = threading.Thread(target=_feed, args=(engine, stop))
    feeding.start()
    clock, side = Clock(engine.pid), Side()
    slowest = 0.0
    told = []
    for what, query in questions(targets):
        took_s = ask(engine, query)
        slowest = max(slowest, took_s)
        told.append(f"{what} {took_s * 1000:.0f} ms")
    stop.set()
    feeding.join()
    clock.stop(side)
    return Figure(
        "history",
        f"{store}: the slowest question of {len(told)}, {targets:,} targets",
        slowest,
        "s",
        target=f"< {limit_s:g} s",
        ok=slowest < limit_s,
        cpu_s=side.cpu_s,
        peak_rss_bytes=side.peak_rss_bytes,
        note="; ".join(told),
    )


def questions(targets: int) -> Iterator[tuple[str, str]]:
    """Yield what is asked of a store of so many targets, in words, and as a query."""
    yield "a URL in the middle", f"target={quote(_url(targets // 2), safe='')}"
    yield "the oldest URL", f"target={quote(_url(0), safe='')}"
    yield "a URL that nobody purged", "target=http%3A%2F%2Fimg1.example.com%2Fnobody"
    yield "a key that nobody purged, by host and key", "target=img1.example.com%2Fnobody"
    yield "the newest of a host", "host=img7.example.com"
    yield "a host that nobody purged", "host=nobody.example.com"
    yield "1,000 of a node", "node=edge-1&limit=1000"
    yield "what failed", "state=failed"
    yield "a token's", "by=nobody"


def ask(engine: EngineProcess, query: str) -> float:
    """Ask until something is found, or there is no more; return the seconds."""
    began = time.perf_counter()
    page = engine.get(f"/v1/engine/history?{query}")
    while page["cursor"] and not page["tasks"]:
        page = engine.get(f"/v1/engine/history?{query}&cursor={page['cursor']}")
    return time.perf_counter() - began


def _size(case: str, size: int, targets: int) -> Figure:
    return Figure("history", case, size / targets, "bytes a target", note="tasks of one URL, on three nodes")


def _id(place: int) -> str:
    return f"1a2296af9029e1f{place:012x}"


def _url(place: int) -> str:
    return f"http://img{place % _HOSTS}.example.com/{place * 7919 % 10**7}/{place}.jpg"


def _feed(engine: EngineProcess, stop: threading.Event) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", engine.port)
    for number in itertools.count():
        if stop.wait(0.01):
            break
        body = json.dumps({"targets": [f"http://{HOST}/fed/{number}"]})
        connection.request("POST", "/v1/engine/task", body, {"Content-Type": "application/json"})
        connection.getresponse().read()
    connection.close()
