"""Entries come all the time while the engine, its workers and the Redis are killed: each is accounted for."""

import contextlib
import json
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Self

import pytest
import redis

from tests.fakes.log_cache import LogCache
from tests.rigs.engine_process import fake_table
from tests.rigs.redis_door import GROUP, SITE, STREAM, Bus, RedisDoorEngine
from tests.rigs.redis_servers import RedisServer
from tests.waiting import wait_until

pytestmark = [pytest.mark.redis, pytest.mark.slow]

SECONDS = float(os.environ.get("STORM_S", "8"))


class Publisher:
    """Adds entries as fast as the Redis takes them; every tenth is poison.

    Attributes:
        good: ids that the Redis has confirmed; *poison* likewise.
    """

    def __init__(self, server: RedisServer) -> None:
        self.good: dict[str, int] = {}
        self.poison: set[str] = set()
        self._server = server
        self._number = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        client = redis.Redis(port=self._server.port, decode_responses=True, socket_timeout=2)
        with client:
            while not self._is_over.is_set():
                self._number += 1
                try:
                    self._add(client)
                except (redis.RedisError, OSError):
                    time.sleep(0.02)

    def _add(self, client: redis.Redis) -> None:
        if self._number % 10 == 0:
            self.poison.add(str(client.xadd(STREAM, {"task": "poison"})))
        else:
            body = json.dumps({"targets": [f"http://{SITE}/{self._number}"]})
            self.good[str(client.xadd(STREAM, {"task": body}))] = self._number


@pytest.mark.parametrize("workers", [0, 2])
def test_each_entry_is_a_task_or_set_aside_whatever_is_killed(tmp_path: Path, workers: int) -> None:
    chosen = random.Random(workers)
    with RedisServer(tmp_path, fsync="always") as server, LogCache("edge-1") as cache:
        bus = Bus(server)
        door: dict[str, object] = {"channels": [], "poison_max": 1_000_000}
        nodes = fake_table(cache.url(0), name="edge-1")
        with RedisDoorEngine(tmp_path, nodes, server.url, door=door, workers=workers) as engine:
            wait_until(bus.has_group)
            until = time.monotonic() + SECONDS
            kills = 0
            with Publisher(server) as publisher:
                while time.monotonic() < until:
                    time.sleep(chosen.uniform(0.2, 1.0))
                    kills += 1
                    if kills % 2:
                        server.kill()
                        server.start()
                    elif workers:
                        with contextlib.suppress(IndexError, ProcessLookupError):
                            os.kill(chosen.choice(engine.workers())["pid"], signal.SIGKILL)
                    else:
                        engine.kill()
                        engine.start()
            wait_until(lambda: bool(engine.request("GET", "/readyz")[0] == 200))
            bus.wait_until_done(timeout_s=60)
            tasks = {task["task_id"]: task for task in engine.tasks()}
            found = {"-".join(task_id.split("-")[1:3]) for task_id in tasks}
            assert publisher.good.keys() - found == set()
            assert len(tasks) == len(found), "an entry was two tasks"
            assert publisher.poison - {record["id"] for record in bus.poison()} == set()
            wait_until(lambda: all(task["state"] == "done" for task in engine.tasks()), timeout_s=60)
            print(
                f"{len(publisher.good)} entries and {len(publisher.poison)} poison, {kills} kills: "
                f"{len(tasks)} tasks, {len(bus.poison())} set aside, {cache.total} purges at the cache, "
                f"{server.ask('XPENDING', STREAM, GROUP)}"
            )
