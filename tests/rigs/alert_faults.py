"""For each alert of the rules a fault that is really made, to an engine that a real Prometheus scrapes.

A fault starts an engine that is well, yields it, and makes the fault when it is asked to go on.
"""

import contextlib
import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import NamedTuple

from release.lab.origin import Origin
from tests.fakes.callback_receiver import RULE, Receiver
from tests.fakes.canary_cache import CanaryCache
from tests.fakes.htcp_clients import htcp_client, mediawiki
from tests.fakes.node import OK, FakeNode, Request, answer
from tests.rigs.cluster_engine import cluster_engine
from tests.rigs.door import DoorEngine, access
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.leaf_faults import leaf_away, region_killed
from tests.rigs.prometheus import Prometheus
from tests.rigs.proof_rig import Cachelet
from tests.rigs.redis_door import GROUP, STREAM, redis_door_table
from tests.rigs.redis_servers import RedisServer
from tests.waiting import wait_until

URL = "http://img.example.com/a"
HOST = "img.example.com"
_STOPS = 8  #: that an engine is made to stand still
Making = Generator[EngineProcess, None, None]


class Fault(NamedTuple):
    """A fault, and the alert that it has to raise."""

    alert: str
    text: str  #: what is done
    make: Callable[[Path], Making]


class Raised(NamedTuple):
    """What an alert said, and how long that took."""

    after_s: float  #: since the fault began to be made
    summary: str
    runbook_url: str


def raise_alert(fault: Fault, prometheus: Prometheus, folder: Path) -> Raised:
    """Make a fault, and wait until its alert fires, which it must not do before."""
    with contextlib.closing(fault.make(folder)) as making:
        engine = next(making)
        prometheus.watch(engine.port)
        assert fault.alert not in prometheus.firing(engine.port), "it fires though nothing is wrong"
        began = time.monotonic()
        assert next(making, None) is engine
        wait_until(
            lambda: fault.alert in prometheus.firing(engine.port),
            what=lambda: f"{fault.alert}; there are {list(prometheus.firing(engine.port))}",
            timeout_s=40,
        )
        after_s = time.monotonic() - began
        said = prometheus.firing(engine.port)[fault.alert]["annotations"]
        prometheus.forget(engine.port)
        return Raised(after_s, said["summary"], said["runbook_url"])


# Nodes


def _killed(folder: Path) -> Making:
    with FakeNode() as node, EngineProcess(folder, fake_table(node.url, name="edge-1")) as engine:
        yield engine
        engine.kill()
        yield engine


def _away(folder: Path) -> Making:
    with FakeNode() as node, EngineProcess(folder, fake_table(node.url, name="edge-1")) as engine:
        yield engine
        node.stop()
        engine.submit([URL])
        yield engine


def _overdue(folder: Path) -> Making:
    with FakeNode() as node, EngineProcess(folder, fake_table(node.url, name="edge-1"), due_s=1) as engine:
        yield engine
        node.stop()
        engine.submit([URL])
        yield engine


def _marked(request: Request) -> list[bytes]:
    """Answer with the mark of the templates."""
    lines = ["Purgeline-Cache: ats edge-1"]
    if nonce := request.headers.get("purgeline-nonce"):
        lines.append(f"Purgeline-Nonce: {nonce}")
    return [answer(404 if nonce else 200, b"", *lines)]


def _passed_on(folder: Path) -> Making:
    """What stands behind the cache answers in its place, probes as well."""
    with (
        FakeNode(_marked, answers_probes=False) as node,
        EngineProcess(folder, fake_table(node.url, name="edge-1", driver="ats", evidence="strict")) as engine,
    ):
        wait_until(lambda: engine.node("edge-1")["evidence"] == "mark")
        yield engine
        node.script = lambda _: [OK]
        engine.submit([URL])
        yield engine


def _refusing(folder: Path) -> Making:
    with FakeNode() as node, EngineProcess(folder, fake_table(node.url, name="edge-1")) as engine:
        yield engine
        node.script = lambda _: [answer(403)]
        engine.submit([URL])
        yield engine


def _paused(folder: Path) -> Making:
    with FakeNode() as node, EngineProcess(folder, fake_table(node.url, name="edge-1")) as engine:
        yield engine
        assert engine.request("POST", "/v1/engine/nodes/edge-1/pause")[0] == 200
        yield engine


def _failing(folder: Path) -> Making:
    with FakeNode() as node, EngineProcess(folder, fake_table(node.url, name="edge-1")) as engine:
        yield engine
        node.script = lambda _: [answer(400)]
        engine.submit([URL])
        yield engine


# What visitors get


_CANARIES = "[canary]\ninterval_s = 0.4\n"


def _lying_canary(folder: Path) -> Making:
    cache = CanaryCache()
    with FakeNode(cache) as node:
        tables = fake_table(node.url, name="edge-1", driver="ats") + _CANARIES
        with EngineProcess(folder, tables) as engine:
            wait_until(lambda: engine.node("edge-1")["canary"])
            yield engine
            cache.lies = True
            yield engine


def _canaries_wait(folder: Path) -> Making:
    """The key and the results of canaries are in Redis."""
    with FakeNode(CanaryCache()) as node, RedisServer(folder) as server:
        tables = fake_table(node.url, name="edge-1", driver="ats") + _CANARIES
        with EngineProcess(folder, f'{tables}[store]\nurl = "{server.url}"\ntimeout_s = 1\n') as engine:
            wait_until(lambda: engine.node("edge-1")["canary"])
            yield engine
            server.kill()
            yield engine


@contextlib.contextmanager
def _verifying(folder: Path, *more: str) -> Iterator[tuple[Cachelet, Origin, EngineProcess]]:
    with Origin() as origin, Cachelet(origin) as cache:
        tables = fake_table(cache.url, name="edge-1") + f'[[origin]]\nhost = "*"\nurl = "{origin.url}"\n'
        with EngineProcess(folder, tables + '[proof]\nverify = "all"\n' + "".join(more)) as engine:
            yield cache, origin, engine


def _lying_cache(folder: Path) -> Making:
    with _verifying(folder) as (cache, origin, engine):
        origin.set(HOST, "/a", b"the first")
        with urllib.request.urlopen(urllib.request.Request(f"{cache.url}/a", headers={"Host": HOST})):
            pass
        yield engine
        cache.lies = -1
        origin.set(HOST, "/a", b"another")
        engine.submit([URL])
        yield engine


def _late(folder: Path) -> Making:
    with _verifying(folder, "objective_s = 0.000001\nobjective_share = 0.5\n") as (_, _, engine):
        yield engine
        for _ in range(2):
            engine.wait_for(engine.submit([URL]))
        yield engine


def _sick_origin(folder: Path) -> Making:
    tables = f'[[origin]]\nhost = "{HOST}"\nurl = "http://127.0.0.1:9"\n'
    with FakeNode() as node, EngineProcess(folder, fake_table(node.url, name="edge-1") + tables) as engine:
        yield engine
        node.script = lambda _: [answer(503)]
        engine.submit([f"http://{HOST}/{number}" for number in range(20)], action="prefetch")
        yield engine


# The store


@contextlib.contextmanager
def _on_redis(folder: Path) -> Iterator[tuple[RedisServer, EngineProcess]]:
    with (
        FakeNode() as node,
        RedisServer(folder) as server,
        cluster_engine(folder, server.url, [node]) as engine,
    ):
        yield server, engine


def _redis_killed(folder: Path) -> Making:
    with _on_redis(folder) as (server, engine):
        yield engine
        server.kill()
        yield engine


def _redis_killed_at_work(folder: Path) -> Making:
    with _on_redis(folder) as (server, engine):
        yield engine
        server.kill()
        assert engine.request("POST", "/v1/engine/task", {"targets": [URL]})[0] == 503
        yield engine


def _redis_slow(folder: Path) -> Making:
    with _on_redis(folder) as (server, engine):
        yield engine
        for _ in range(3):
            server.pause()
            resuming = threading.Timer(0.7, server.resume)
            resuming.start()
            engine.submit([URL])
            resuming.join()
        yield engine


# Doors


def _door_redis_killed(folder: Path) -> Making:
    with FakeNode() as node, RedisServer(folder) as server:
        tables = fake_table(node.url, name="edge-1") + access(HOST) + redis_door_table(server.url)
        with EngineProcess(folder, tables) as engine:
            yield engine
            server.kill()
            yield engine


def _door_pending(folder: Path) -> Making:
    """Another consumer takes an entry and does nothing with it."""
    with FakeNode() as node, RedisServer(folder) as server:
        door = redis_door_table(server.url, takeover_s=60)
        with EngineProcess(folder, fake_table(node.url, name="edge-1") + access(HOST) + door) as engine:
            wait_until(lambda: server.ask("EXISTS", STREAM), what="the stream")
            yield engine
            with server.client() as client, client.pipeline() as both:  # in between nobody else reads
                both.xadd(STREAM, {"task": json.dumps({"targets": [URL]})})
                both.xreadgroup(GROUP, "idler", {STREAM: ">"}, count=1)
                both.execute()
            yield engine


def _flood(folder: Path) -> Making:
    door = {"kind": "htcp", "receive_buffer_bytes": 64 * 1024}
    with (
        FakeNode() as node,
        DoorEngine(folder, fake_table(node.url, name="edge-1"), door=door) as engine,
        htcp_client(engine.door_port) as client,
    ):
        yield engine
        os.kill(engine.pid, signal.SIGSTOP)
        for number in range(1000):
            client.send(mediawiki(f"http://{HOST}/{number}", number))
        os.kill(engine.pid, signal.SIGCONT)
        yield engine


# Around it


def _callback_refused(folder: Path) -> Making:
    receiver = Receiver()
    receiver.status = lambda _: 410
    try:
        with (
            FakeNode() as node,
            EngineProcess(folder, fake_table(node.url, name="edge-1") + RULE) as engine,
        ):
            yield engine
            engine.submit([URL], callback=f"{receiver.url}/done")
            yield engine
    finally:
        receiver.stop()


def _no_cpu(folder: Path) -> Making:
    with FakeNode() as node, EngineProcess(folder, fake_table(node.url, name="edge-1")) as engine:
        yield engine
        for _ in range(_STOPS):
            os.kill(engine.pid, signal.SIGSTOP)
            time.sleep(0.6)
            os.kill(engine.pid, signal.SIGCONT)
            time.sleep(0.1)
        yield engine


FAULTS = (
    Fault("PurgelineDown", "the engine is killed (SIGKILL)", _killed),
    Fault("PurgelineNodeDown", "a cache ends, and a purge comes for it", _away),
    Fault("PurgelineNodeUnproven", "the answers of a cache bear no sign of it any more", _passed_on),
    Fault("PurgelineNodeRefusing", "a cache answers a purge with 403", _refusing),
    Fault("PurgelineNodePaused", "an operator pauses a node", _paused),
    Fault("PurgelineNodeFailing", "a cache answers a purge with 400", _failing),
    Fault("PurgelineLeafDown", "a cache of a region ends, and a purge comes for it", leaf_away),
    Fault("PurgelineLeavesUnknown", "the engine of a region is killed", region_killed),
    Fault("PurgelineDelayedLong", "a cache ends, and a purge waits for it", _away),
    Fault("PurgelineTasksUnfinished", "a cache is away when a task is due", _overdue),
    Fault("PurgelineCanaryStale", "a cache acks purges and keeps what it has", _lying_canary),
    Fault("PurgelineCanariesOld", "the Redis with the key of canaries ends", _canaries_wait),
    Fault("PurgelineStaleServed", "a cache acks a purge and keeps the page, which is verified", _lying_cache),
    Fault("PurgelineObjectiveMissed", "pages are fresh later than the objective wants", _late),
    Fault("PurgelineOriginPaused", "prefetches are answered 503", _sick_origin),
    Fault("PurgelineUnavailable", "Redis ends, and a client hands in a task", _redis_killed_at_work),
    Fault("PurgelineStoreFailing", "Redis ends, and a client hands in a task", _redis_killed_at_work),
    Fault("PurgelineStoreSlow", "Redis stands still for 0.7 s while tasks are saved", _redis_slow),
    Fault("PurgelineRedisDown", "Redis is killed", _redis_killed),
    Fault("PurgelineDoorDown", "the Redis of a door is killed", _door_redis_killed),
    Fault("PurgelineDoorBehind", "a consumer takes an entry and does nothing with it", _door_pending),
    Fault("PurgelineDatagramsDropped", "1,000 datagrams come while the engine stands still", _flood),
    Fault("PurgelineCallbacksFailed", "a receiver answers a callback with 410", _callback_refused),
    Fault("PurgelineLoopBusy", "the engine gets no CPU for 0.6 s at a time", _no_cpu),
)
