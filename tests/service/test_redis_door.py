"""A door that reads a Redis: streams and channels of a real server, a real engine, a scripted cache."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engine.doors.redis.door import HOLDS
from engine.doors.redis.handing import IN_HAND_MAX
from engine.doors.redis.stream import StreamReader
from tests.fakes.node import OK, Act, FakeNode, Request
from tests.rigs import engine_in_loop
from tests.rigs.cluster_engine import cluster_engine
from tests.rigs.door import access
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.redis_door import CHANNEL, POISON, SITE, STREAM, Bus, RedisDoorEngine, redis_door_table
from tests.rigs.redis_servers import RedisServer
from tests.waiting import until, wait_until

pytestmark = pytest.mark.redis


class Here(NamedTuple):
    """An engine that reads a Redis, in front of a scripted node."""

    bus: Bus
    node: FakeNode
    engine: RedisDoorEngine


def listens(bus: Bus) -> bool:
    """Whether somebody hears the channel, and the stream has its group."""
    return bus.listeners() > 0 and bus.has_group()


def warnings_of(engine: RedisDoorEngine) -> str:
    """Return what ``check-config`` says beside the configuration."""
    command = [sys.executable, "-m", "engine", "check-config", str(engine.config_path)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stderr


def purged(node: FakeNode, *paths: str) -> bool:
    seen = {request.path for request in node.requests if request.method == "PURGE"}
    return set(paths) <= seen


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    folder = tmp_path_factory.mktemp("redis-door")
    with RedisServer(folder, fsync="none") as server, FakeNode() as node:
        bus = Bus(server)
        nodes = fake_table(node.url, name="edge-1")
        door: dict[str, object] = {"default_hosts": [SITE]}
        with RedisDoorEngine(folder, nodes, server.url, SITE, "*.shop.example", door=door) as engine:
            wait_until(lambda: listens(bus), what="the engine reading")
            yield Here(bus, node, engine)


def test_an_entry_is_a_task_and_is_acknowledged(here: Here) -> None:
    """All fields of a task hold; who handed it in is the token, by the address of the Redis."""
    entry = here.bus.add("/one", "/two", due_s=30)
    here.bus.wait_until_done()
    [task] = [task for task in here.engine.tasks() if entry in task["task_id"]]
    task = here.engine.wait_for(task["task_id"])
    assert task["targets"] == [f"http://{SITE}/one", f"http://{SITE}/two"]
    assert task["by"] == {"token": "cms", "address": "127.0.0.1", "door": "redis"}
    assert purged(here.node, "/one", "/two")
    here.bus.add("/own", id="release-7")
    assert here.engine.metric("up", f'source="{STREAM}"') == 1
    wait_until(lambda: here.engine.request("GET", "/v1/engine/task/release-7")[0] == 200)


REFUSED = {
    "no JSON": ("{", "400", "not valid JSON"),
    "no object": ("[]", "422", "expected `object`"),
    "an unknown field": ('{"targets": ["http://img.example.com/"], "sofd": true}', "422", "'soft'"),
    "another site": ('{"targets": ["http://evil.example/"]}', "422", "evil.example"),
    "a wrong id": ('{"targets": ["http://img.example.com/"], "id": "a b"}', "422", "id: takes"),
    "no UTF-8": ("\udcff", "400", "JSON"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_poison_entry_is_set_aside_with_its_reason_and_holds_up_nothing(name: str, here: Here) -> None:
    body, status, says = REFUSED[name]
    entry = str(here.bus.server.ask("XADD", STREAM, "*", "task", body.encode(errors="surrogateescape")))
    behind = here.bus.add(f"/behind-{entry}")
    here.bus.wait_until_done()
    [record] = [record for record in here.bus.poison() if record.get("id") == entry]
    assert (record["stream"], record["status"]) == (STREAM, status)
    assert says in record["detail"]
    assert record["body_bytes"] == str(len(body.encode(errors="surrogateescape")))
    assert any(behind in task["task_id"] for task in here.engine.tasks())


def test_an_entry_without_the_field_and_one_that_is_too_long_are_set_aside(here: Here) -> None:
    first = here.bus.add_body("{}", field="body")
    second = here.bus.add_body(json.dumps({"targets": ["x" * (9 << 20)]}))
    here.bus.wait_until_done()
    records = {record.get("id"): record for record in here.bus.poison()}
    assert "field 'task' is missing; the entry has: body" in records[first]["detail"]
    assert (records[first]["status"], records[first]["body"]) == ("422", '{"body":"{}"}')
    assert (records[second]["status"], len(records[second]["body"])) == ("413", 64 * 1024)
    assert int(records[second]["body_bytes"]) > 9 << 20
    assert f"of stream {STREAM} is refused: " in here.engine.log()
    assert here.engine.counted("refused") >= 2
    audit = [
        line for line in map(json.loads, here.engine.log().splitlines()) if line.get("audit") == "refused"
    ]
    [line] = [line for line in audit if line.get("request") == f"entry {first} of stream {STREAM}"]
    assert (line["by"], line["door"], line["status"]) == ("cms", "redis", 422)


MESSAGES = {
    "purge": (("purge", "/m1", "m2?page=2"), "url", [f"http://{SITE}/m1", f"http://{SITE}/m2?page=2"]),
    "ban.url": (("ban.url", "^/news/"), "regex", [f"http://{SITE}/news/"]),
    "ban.url of all": (("ban.url", ".*"), "host", [SITE]),
    "ban": (
        ("ban", f"req.http.host == {SITE} && req.url ~ ^/old/"),
        "regex",
        [f"http://{SITE}/old/"],
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_of_towncrier_is_a_task(name: str, here: Here) -> None:
    words, kind, targets = MESSAGES[name]
    assert here.bus.publish(*words) == 1

    def found() -> bool:
        return any(task["kind"] == kind and task["targets"] == targets for task in full(here.engine))

    wait_until(found, what="the task of the message")


def full(engine: RedisDoorEngine) -> list[dict[str, object]]:
    """Return the newest tasks, with their targets."""
    return [engine.task(task["task_id"]) for task in engine.tasks(limit=20)]


def test_keys_of_a_message_are_purged_on_every_host_of_the_token(here: Here) -> None:
    here.bus.publish("xkey", "a", "b c", host="")
    wanted = [f"{host}/{key}" for host in (SITE, "*.shop.example") for key in "abc"]
    wait_until(lambda: any(task["targets"] == wanted for task in full(here.engine)))


def test_a_message_that_is_refused_is_set_aside(here: Here) -> None:
    here.bus.publish("flush", "/")
    here.bus.publish("purge", "/", host="evil.example")

    def records() -> list[str]:
        return [record["detail"] for record in here.bus.poison() if record.get("channel") == CHANNEL]

    wait_until(lambda: len(records()) == 2, what="two records")
    assert any("command: 'flush' is none; takes purge, xkey" in text for text in records())
    assert any("evil.example" in text for text in records())


def test_a_stream_that_was_emptied_is_read_on_from_where_it_was(here: Here) -> None:
    """Nothing that is added after the Redis was emptied is left out, whatever ``start`` says."""
    here.bus.add_body("{}", at=f"{1 << 43}-0")  # its clock is set back: the next id is lower
    here.bus.wait_until_done()
    with here.bus.server.client() as client:
        pipe = client.pipeline()
        pipe.flushall()
        pipe.xadd(STREAM, {"task": json.dumps({"targets": [f"http://{SITE}/after-the-flush"]})})
        entry = pipe.execute()[-1]
    wait_until(lambda: purged(here.node, "/after-the-flush"))
    wait_until(lambda: bool(here.bus.group()) and here.bus.is_done())
    assert any(entry in task["task_id"] for task in here.engine.tasks())
    assert f"the group 'purgeline' of the stream '{STREAM}' is gone" in here.engine.log()


def test_a_group_that_was_destroyed_goes_on_where_it_was(here: Here) -> None:
    """What was done before is not done again, and what came in between is."""
    for number in range(5):
        here.bus.add(f"/before-{number}")
    here.bus.wait_until_done()
    known = here.engine.counted("known")
    with here.bus.server.client() as client:
        pipe = client.pipeline()
        pipe.xgroup_destroy(STREAM, "purgeline")
        pipe.xadd(STREAM, {"task": json.dumps({"targets": [f"http://{SITE}/in-between"]})})
        pipe.execute()
    wait_until(lambda: purged(here.node, "/in-between"))
    wait_until(lambda: here.bus.has_group() and here.bus.is_done())
    assert here.engine.counted("known") == known


def test_entries_of_a_consumer_that_has_gone_are_claimed(here: Here) -> None:
    """It read them, and died; nobody works on them for ``takeover_s``."""
    here.bus.wait_until_done()
    server = here.bus.server
    server.ask("XGROUP", "CREATE", STREAM, "gone", "$")
    with server.client() as client:  # one transaction, so that the engine does not read it first
        pipe = client.pipeline()
        pipe.xadd(STREAM, {"task": json.dumps({"targets": [f"http://{SITE}/claimed"]})})
        pipe.xreadgroup("purgeline", "dead/0.1", {STREAM: ">"})
        pipe.execute()
    wait_until(lambda: purged(here.node, "/claimed"))
    here.bus.wait_until_done()
    assert here.engine.counted("claimed") >= 1


def test_the_engine_serves_while_its_redis_is_away_and_reads_on_when_it_is_back(here: Here) -> None:
    here.bus.wait_until_done()
    here.bus.server.kill()
    wait_until(lambda: here.engine.metric("up", f'source="{STREAM}"') == 0)
    assert here.engine.request("GET", "/readyz")[0] == 200
    assert here.engine.wait_for(here.engine.submit([f"http://{SITE}/meanwhile"]))["state"] == "done"
    here.bus.server.start()  # without a file: it is empty
    wait_until(lambda: listens(here.bus))
    here.bus.add("/back")
    here.bus.publish("purge", "/heard-again")
    wait_until(lambda: purged(here.node, "/back", "/heard-again"))
    log = here.engine.log()
    assert f'"alert":"door:{here.bus.server.url}:{STREAM}"' in log
    assert "what is published meanwhile is lost" in log
    assert here.engine.counted("reconnects", CHANNEL) == 1


def test_what_is_older_than_max_age_is_dropped_and_counted(tmp_path: Path) -> None:
    """By the id of the entry, and the clock of its server."""
    with RedisServer(tmp_path, fsync="none") as server, FakeNode() as node:
        bus = Bus(server)
        now_ms = int(server.ask("TIME")[0]) * 1000
        body = '{"targets": ["http://img.example.com/%s"]}'
        bus.add_body(body % "old", at=f"{now_ms - 61_000}-0")
        bus.add_body(body % "new", at=f"{now_ms - 30_000}-0")
        door: dict[str, object] = {"start": "0", "max_age_s": 60, "channels": []}
        with RedisDoorEngine(tmp_path, fake_table(node.url, name="edge-1"), server.url, door=door) as engine:
            wait_until(lambda: purged(node, "/new"))
            bus.wait_until_done()
            assert (engine.counted("too_old"), engine.counted("saved")) == (1, 1)
            assert not purged(node, "/old")


def test_a_key_that_is_no_stream_is_told_and_the_engine_serves(tmp_path: Path) -> None:
    with RedisServer(tmp_path, fsync="none") as server, FakeNode() as node:
        server.ask("SET", STREAM, "text")
        nodes = fake_table(node.url, name="edge-1")
        checked = RedisDoorEngine(tmp_path, nodes, server.url)
        assert f"'{STREAM}' is a string and no stream" in warnings_of(checked)
        with RedisDoorEngine(tmp_path, nodes, server.url, door={"channels": []}) as engine:
            wait_until(lambda: "WRONGTYPE" in engine.log())
            assert engine.request("GET", "/readyz")[0] == 200
            server.ask("DEL", STREAM)
            wait_until(lambda: bool(server.ask("EXISTS", STREAM)), what="the group being made")
            Bus(server).add("/now")
            wait_until(lambda: purged(node, "/now"))


@pytest.mark.slow
def test_a_reader_waits_while_its_token_is_over_its_rate_and_loses_nothing(tmp_path: Path) -> None:
    with RedisServer(tmp_path, fsync="none") as server, FakeNode() as node:
        bus = Bus(server)
        paths = [f"/{number}" for number in range(60)]
        for path in paths:
            bus.add(path)
        door: dict[str, object] = {"start": "0", "channels": []}
        token: dict[str, object] = {"rate_per_s": 30}
        nodes = fake_table(node.url, name="edge-1")
        with RedisDoorEngine(tmp_path, nodes, server.url, door=door, token=token) as engine:
            bus.wait_until_done()
            wait_until(lambda: purged(node, *paths))
            assert engine.counted("saved") + engine.counted("known") == 60
            assert engine.counted("delayed") > 0
            assert bus.poison() == []


def test_a_full_engine_reads_no_more_than_it_can_hold_and_all_of_it_when_there_is_room(
    tmp_path: Path,
) -> None:
    """What waits is not acknowledged; and who ends meanwhile leaves it to the next."""
    may_answer = threading.Event()

    def script(_request: Request) -> Iterator[bytes | Act]:
        may_answer.wait(30)
        yield OK

    with RedisServer(tmp_path, fsync="none") as server, FakeNode(script) as node:
        bus = Bus(server)
        door: dict[str, object] = {"channels": []}
        nodes = fake_table(node.url, name="edge-1")
        limits: dict[str, Any] = {"live_subtasks_max": 5, "saver_push_timeout_s": 0.1, "drain_timeout_s": 2}
        with RedisDoorEngine(tmp_path, nodes, server.url, door=door, **limits) as engine:
            wait_until(bus.has_group)
            paths = [f"/{number}" for number in range(60)]
            for path in paths:
                bus.add(path)
            wait_until(lambda: engine.counted("delayed") > 30 and bus.pending() == IN_HAND_MAX)
            assert bus.group()["lag"] == 60 - 5 - IN_HAND_MAX
            engine.stop()
            assert bus.pending() == IN_HAND_MAX
            may_answer.set()
            engine.start()
            bus.wait_until_done()
            wait_until(lambda: purged(node, *paths))
            assert bus.poison() == []
            assert len(engine.tasks()) == 60


def test_an_engine_that_ends_while_it_looks_for_what_others_left_reads_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it lets go of makes room, for the engine that comes after it."""
    may_answer, is_ending = threading.Event(), False
    look, run = StreamReader._look, StreamReader.run
    ended: list[StreamReader] = []

    def script(_request: Request) -> Iterator[bytes | Act]:
        may_answer.wait(60)
        yield OK

    async def look_and_stop(reader: StreamReader) -> None:
        await look(reader)
        if is_ending:
            reader.stop()

    async def run_and_tell(reader: StreamReader) -> None:
        await run(reader)
        ended.append(reader)

    async def scenario() -> None:
        nonlocal is_ending
        tables = tomllib.loads(access(SITE) + redis_door_table(server.url, channels=[]))
        limits: dict[str, Any] = {"live_subtasks_max": 5, "saver_push_timeout_s": 0.1}
        async with engine_in_loop.running(tmp_path, node.url, tables=tables, **limits):
            await until(bus.has_group)
            for number in range(60):
                bus.add(f"/{number}")
            await until(lambda: bus.pending() == IN_HAND_MAX and bus.group()["lag"] == 60 - 5 - IN_HAND_MAX)
            is_ending = True
            await until(lambda: ended, what="the end of its reader")
            assert bus.pending() == IN_HAND_MAX
            may_answer.set()

    monkeypatch.setattr(StreamReader, "_look", look_and_stop)
    monkeypatch.setattr(StreamReader, "run", run_and_tell)
    with RedisServer(tmp_path, fsync="none") as server, FakeNode(script) as node:
        bus = Bus(server)
        try:
            engine_in_loop.run(scenario)
        finally:
            may_answer.set()


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_an_engine_that_is_killed_in_mid_stream_loses_no_entry_and_does_none_twice(
    tmp_path: Path, workers: int
) -> None:
    """Each entry is one task, whatever was delivered again: its id is made of the entry's."""
    count = 600
    with RedisServer(tmp_path, fsync="none") as server, FakeNode() as node:
        bus = Bus(server)
        nodes = fake_table(node.url, name="edge-1")
        with RedisDoorEngine(tmp_path, nodes, server.url, door={"channels": []}, workers=workers) as engine:
            wait_until(bus.has_group)
            added = [bus.add(f"/{number}") for number in range(count // 2)]
            wait_until(lambda: len(node.requests) > 20, what="some purges")
            if workers:
                os.kill(engine.workers()[0]["pid"], signal.SIGKILL)
            else:
                engine.kill()
                engine.start()
            added += [bus.add(f"/{number}") for number in range(count // 2, count)]
            bus.wait_until_done(timeout_s=40)
            wait_until(lambda: purged(node, *(f"/{number}" for number in range(count))))
            ids = [task["task_id"] for task in engine.tasks()]
            assert {"-".join(one.split("-")[1:3]) for one in ids} == set(added)
            assert len(ids) == count


@pytest.mark.parametrize("fsync", ["always"])
def test_a_redis_that_is_killed_in_mid_stream_accounts_for_every_entry(tmp_path: Path, fsync: str) -> None:
    """What it confirmed to its publisher is saved, set aside, or too old: nothing is missing."""
    with RedisServer(tmp_path, fsync=fsync) as server, FakeNode() as node:
        bus = Bus(server)
        door: dict[str, object] = {"channels": [], "max_age_s": 3600}
        with RedisDoorEngine(tmp_path, fake_table(node.url, name="edge-1"), server.url, door=door) as engine:
            wait_until(bus.has_group)
            bus.add_body('{"targets": ["http://img.example.com/old"]}', at="1000-0")
            paths, poison = [], 0
            for round_ in range(3):
                for number in range(100):
                    paths.append(f"/{round_}-{number}")
                    bus.add(paths[-1])
                    if number % 20 == 0:
                        bus.add_body("poison")
                        poison += 1
                server.kill()
                server.start()
            bus.wait_until_done()
            wait_until(lambda: purged(node, *paths))
            assert engine.counted("too_old") >= 1
            ids = {record["id"] for record in bus.poison()}
            assert len(ids) == poison
            assert len(engine.tasks()) == len(paths)


@pytest.mark.slow
def test_workers_that_a_reload_replaces_leave_nothing_behind(tmp_path: Path) -> None:
    """Entries come all the time, over a reload; each is done, and the consumers of the old ones are gone."""
    with RedisServer(tmp_path, fsync="none") as server, FakeNode() as node:
        bus = Bus(server)
        with RedisDoorEngine(tmp_path, fake_table(node.url, name="edge-1"), server.url, workers=2) as engine:
            wait_until(lambda: listens(bus))
            before: set[str] = set()
            paths = [f"/{number}" for number in range(200)]
            for number, path in enumerate(paths):
                bus.add(path)
                if number == 100:
                    wait_until(lambda: len(bus.consumers()) == 2, what="both workers reading")
                    before = set(bus.consumers())
                    engine.hang_up()
            bus.wait_until_done()
            wait_until(lambda: purged(node, *paths))
            wait_until(lambda: not before & set(bus.consumers()), what="the old consumers being gone")
            wait_until(lambda: bus.listeners() == 1, what="the worker before to listen no more")
            assert bus.publish("purge", "/after") == 1
            wait_until(lambda: purged(node, "/after"))
            assert len({task["task_id"] for task in engine.tasks()}) == len(paths) + 1


def holder_of(server: RedisServer) -> str:
    """Return the name of the worker that makes tasks of messages; empty: none does."""
    keys = server.ask("KEYS", f"{HOLDS}*")
    return str(server.ask("GET", keys[0])) if keys else ""


@contextlib.contextmanager
def two_engines(folder: Path, server: RedisServer, cache: FakeNode) -> Iterator[list[EngineProcess]]:
    """Run two engines that share a store, and listen; the one that makes tasks of messages comes first."""
    bus = Bus(server)
    door = redis_door_table(server.url, token="", streams=[])
    with contextlib.ExitStack() as stack:
        engines = [
            stack.enter_context(cluster_engine(folder, server.url, [cache], number=number, more=door))
            for number in range(2)
        ]
        wait_until(lambda: bus.listeners() == 2 and holder_of(server))
        is_first = holder_of(server).startswith("engine-0/")
        yield engines if is_first else engines[::-1]


def test_engines_that_share_a_store_make_one_task_of_a_message(tmp_path: Path) -> None:
    """All of them hear it; when the one whose turn it is ends, the other goes on at once."""
    with RedisServer(tmp_path, fsync="none") as server, FakeNode() as cache:
        bus = Bus(server)
        with two_engines(tmp_path, server, cache) as (first, second):
            for number in range(20):
                assert bus.publish("purge", f"/{number}") == 2
            wait_until(lambda: len(second.get("/v1/engine/tasks?limit=100")["tasks"]) == 20)
            before = holder_of(server)
            os.kill(first.pid, signal.SIGTERM)
            for number in range(20, 60):
                bus.publish("purge", f"/{number}")
                time.sleep(0.05)  # over the end of the one, and the turn of the other
            wait_until(lambda: purged(cache, *(f"/{number}" for number in range(60))))
            assert holder_of(server) != before


@pytest.mark.slow
def test_when_the_engine_whose_turn_it_is_is_killed_another_makes_up_for_it(tmp_path: Path) -> None:
    with RedisServer(tmp_path, fsync="none") as server, FakeNode() as cache:
        bus = Bus(server)
        with two_engines(tmp_path, server, cache) as (first, _):
            os.kill(first.pid, signal.SIGSTOP)
            bus.publish("purge", "/made-up-for")
            first.kill()
            wait_until(lambda: purged(cache, "/made-up-for"))


def test_the_rights_of_the_documentation_are_enough(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/streams.md").read_text()
    rights = next(line for line in page.splitlines() if line.startswith("ACL SETUSER"))
    with RedisServer(tmp_path, fsync="none") as server, FakeNode() as node:
        server.ask(*rights.split())
        bus = Bus(server)
        url = server.url.replace("redis://", "redis://purgeline:secret@")
        door: dict[str, object] = {"max_age_s": 3600}
        with RedisDoorEngine(tmp_path, fake_table(node.url, name="edge-1"), url, door=door) as engine:
            wait_until(lambda: listens(bus))
            entry = bus.add_body("poison")
            bus.add("/entry")
            bus.publish("purge", "/message")
            wait_until(lambda: purged(node, "/entry", "/message"))
            bus.wait_until_done()
            assert [record["id"] for record in bus.poison()] == [entry]
            engine.stop()
            assert bus.consumers() == []
            assert "secret" not in engine.log()
            assert "NOPERM" not in engine.log()


@pytest.mark.slow
def test_a_redis_that_is_silent_is_noticed_and_read_again_when_it_speaks(tmp_path: Path) -> None:
    with RedisServer(tmp_path, fsync="none") as server, FakeNode() as node:
        bus = Bus(server)
        door: dict[str, object] = {"timeout_s": 1}
        nodes = fake_table(node.url, name="edge-1")
        with RedisDoorEngine(tmp_path, nodes, server.url, door=door) as engine:
            wait_until(lambda: listens(bus))
            server.pause()
            for source in (STREAM, CHANNEL):
                wait_until(lambda source=source: engine.metric("up", f'source="{source}"') == 0)  # type: ignore[misc]
            server.resume()
            bus.add("/entry")
            wait_until(lambda: engine.metric("up", f'source="{CHANNEL}"') == 1)
            bus.publish("purge", "/message")
            wait_until(lambda: purged(node, "/entry", "/message"))


def test_poison_cannot_be_set_aside_and_what_is_behind_goes_on(tmp_path: Path) -> None:
    """It stays pending, and is set aside when there is a place for it."""
    with RedisServer(tmp_path, fsync="none") as server, FakeNode() as node:
        bus = Bus(server)
        server.ask("SET", POISON, "text")
        nodes = fake_table(node.url, name="edge-1")
        with RedisDoorEngine(tmp_path, nodes, server.url, door={"channels": []}) as engine:
            wait_until(bus.has_group)
            entry = bus.add_body("poison")
            bus.add("/behind")
            wait_until(lambda: purged(node, "/behind"))
            wait_until(lambda: "cannot be set aside" in engine.log())
            assert bus.pending() == 1
            server.ask("DEL", POISON)
            bus.wait_until_done()
            assert [record["id"] for record in bus.poison()] == [entry]
