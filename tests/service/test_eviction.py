"""A Redis that begins to evict while engines run: operators are told, and no task waits for what is gone."""

import os
import signal
from pathlib import Path

import pytest

from tests.fakes.log_cache import LogCache
from tests.rigs.cluster_engine import cluster_engine
from tests.rigs.engine_process import EngineProcess
from tests.rigs.redis_servers import RedisServer
from tests.waiting import wait_until

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

URLS = [f"http://a.com/{number:06d}" for number in range(1000)]


def test_tasks_whose_rows_are_evicted_fail_and_operators_are_told(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server, LogCache("edge-1") as cache:
        cache.down()
        with cluster_engine(tmp_path, server.url, [cache]) as engine:
            task_id = engine.submit(URLS)
            engine.wait_for(task_id, "partial")
            wait_until(lambda: sum(rows(server).values()) == 1000, what="all rows in Redis")
            other = task_in_another_queue(engine, server)
            queue = max(rows(server).items(), key=lambda pair: pair[1])[0]
            os.kill(engine.pid, signal.SIGSTOP)  # it looks at its queues, which makes them young
            evict(server, queue)
            os.kill(engine.pid, signal.SIGCONT)
            document = engine.wait_for(task_id, "failed")
            assert (document["failed"], document["delayed"]) == (len(URLS), 0)
            assert "1000 subtasks: lost: their rows are not in Redis any more" in str(document["errors"])
            told = ('"audit":"settled"', f'"task_id":"{task_id}"', '"outcome":"failed"')
            wait_until(
                lambda: any(all(part in line for part in told) for line in engine.log().splitlines()),
                what="the line of the audit",
            )
            assert engine.task(other)["delayed"] == 1
            wait_until(lambda: "allkeys-lru" in "".join(warnings(engine)), what="the warning")
            wait_until(lambda: "Redis has evicted 1 keys" in engine.log(), what="the line in the log")
            server.set("maxmemory-policy", "noeviction")
            wait_until(lambda: not warnings(engine), what="its end")


def task_in_another_queue(engine: EngineProcess, server: RedisServer) -> str:
    """Return a task whose row is in another region's queue; which region that is depends on its id."""
    task_id, count = "", 0
    while len(rows(server)) < 2:
        count += 1
        task_id = engine.submit(["http://a.com/x"])
        wait_until(lambda: sum(rows(server).values()) == 1000 + count, what="its row")  # noqa: B023 - now
    return task_id


def rows(server: RedisServer) -> dict[str, int]:
    """Return how many each queue of the node holds."""
    return {queue: server.ask("ZCARD", queue) for queue in server.ask("KEYS", "*:delay:edge-1")}


def warnings(engine: EngineProcess) -> list[str]:
    return list(engine.get("/v1/engine/cluster")["warnings"])


def evict(server: RedisServer, key: str) -> None:
    """Have an operator let Redis evict, and Redis what was not used for the longest time: *key*."""
    wait_until(lambda: server.ask("OBJECT", "IDLETIME", key) >= 2, what=f"{key} being old")
    server.ask("TOUCH", *(other for other in server.ask("KEYS", "*") if other != key))
    server.set("maxmemory-samples", 64)
    server.set("maxmemory-policy", "allkeys-lru")
    server.set("maxmemory", server.info("memory")["used_memory"] - 30_000)
    wait_until(lambda: not server.ask("EXISTS", key), what=f"the eviction of {key}")
    server.set("maxmemory", 0)
    assert server.info("stats")["evicted_keys"] == 1
