"""A configuration that changes while purges wait: none is given up, and none counts that did nothing."""

from __future__ import annotations

import re
import time
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from engine.cli.main import main
from tests.fakes.node import FakeNode, Held
from tests.rigs.engine_process import EngineProcess, fake_table, layer_tables
from tests.rigs.redis_servers import RedisServer
from tests.rigs.supervised_engine import SupervisedEngine
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WAYS = ["restart", "SIGHUP"]
FAR = "http://img.example.com"


def engine_of(way: str, folder: Path, tables: str, **settings: Any) -> EngineProcess:
    kind = SupervisedEngine if way == "SIGHUP" else EngineProcess
    return kind(folder, tables, drain_timeout_s=1, request_timeout_s=0.5, **settings)


def change(engine: EngineProcess, tables: str) -> None:
    """Let the engine have another configuration."""
    engine.configure(tables)
    if isinstance(engine, SupervisedEngine):
        engine.hang_up()
        engine.wait_for_quiet()
    else:
        assert engine.stop() == 0
        engine.start()


def away() -> FakeNode:
    """A cache that is down, and may come back."""
    node = FakeNode()
    node.start()
    node.stop()
    return node


def submit_both(engine: EngineProcess, **body: Any) -> list[str]:
    """Hand in what waits in the journal, and what waits as a stored document; wait until both are parked."""
    ids = [
        engine.submit([f"{FAR}/{name}/"], due_s=due_s, **body)
        for name, due_s in (("long", 3600), ("due", 0.2))
    ]
    engine.wait_for(ids[1], "partial")
    wait_until(lambda: engine.task(ids[0])["delayed"] > 0, what="the first task being parked")
    return ids


def has_counted(engine: EngineProcess, task_id: str, count: int) -> bool:
    return bool(engine.task(task_id)["counter"] == count)


def says(engine: EngineProcess, task_id: str, node: str, why: str) -> bool:
    errors = engine.task(task_id)["errors"]
    return any(error["node"] == node and error["reason"].startswith(why) for error in errors)


@pytest.mark.parametrize("way", WAYS)
def test_a_prefix_purge_that_waits_is_not_dropped_because_a_squid_is_added(way: str, tmp_path: Path) -> None:
    varnish = away()
    tables = fake_table(varnish.url, name="v")
    with FakeNode() as squid, engine_of(way, tmp_path, tables) as engine:
        ids = submit_both(engine, kind="prefix")
        change(engine, tables + fake_table(squid.url, name="s", driver="squid"))
        for task_id in ids:
            task = engine.task(task_id)
            assert (task["total"], task["failed"]) == (1, 0), task
        with varnish:
            for task_id in ids:
                task = engine.wait_for(task_id)
                assert (task["state"], task["counter"], task["total"]) == ("done", 1, 1)
        assert [request.method for request in varnish.requests] == ["BAN", "BAN"]
        assert squid.requests == []


@pytest.mark.parametrize("way", WAYS)
def test_a_node_that_is_taken_out_fails_its_own_share_and_no_other(
    way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stays, goes = away(), away()
    tables = fake_table(stays.url, name="stays")
    with engine_of(way, tmp_path, tables + fake_table(goes.url, name="goes")) as engine:
        ids = submit_both(engine, nodes=["stays", "goes"])
        change(engine, tables)
        with stays:
            for task_id in ids:
                wait_until(partial(has_counted, engine, task_id, 1), what="the other's ack")
                wait_until(
                    partial(says, engine, task_id, "goes", "gone: not configured since 20"), what="why"
                )
                waiting = engine.task(task_id)
                assert (waiting["total"], waiting["delayed"], waiting["failed"]) == (2, 1, 0)
            left = engine.node("goes")
            assert (left["state"], left["layer"], left["delayed"]) == ("gone", "edge", 2)
            assert left["reason"].startswith("gone: not configured since 20")
            assert 0 < time.time() - left["since"] < 60
            assert left["oldest_delayed_s"] > 0
            assert main(["nodes", "--engine", f"http://127.0.0.1:{engine.port}"]) == 0
            assert "\tgone\t" in capsys.readouterr().out
            assert engine.request("DELETE", "/v1/engine/nodes/stays")[0] == 409
            assert engine.request("DELETE", "/v1/engine/nodes/nobody")[0] == 404
            assert main(["forget", "goes", "--engine", f"http://127.0.0.1:{engine.port}"]) == 0
            assert capsys.readouterr().out == "node goes\nfailed 2\n"
            for task_id in ids:
                task = engine.wait_for(task_id)
                assert (task["state"], task["counter"], task["failed"], task["total"]) == ("failed", 1, 1, 2)
                assert task["errors"][-1]["node"] == "goes"
                assert task["errors"][-1]["reason"] == "gone: not configured, and forgotten by an operator"
            assert [node["name"] for node in engine.get("/v1/engine/nodes")["nodes"]] == ["stays"]
            assert len(stays.requests) == 2


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=[pytest.mark.slow, pytest.mark.redis])])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The ``[store]`` table."""
    if request.param == "sqlite":
        yield ""
        return
    with RedisServer(tmp_path) as redis:
        yield f'[store]\nurl = "{redis.url}"\ntakeover_s = 1\n'


def test_a_node_that_comes_back_in_time_gets_what_waited_for_it(tmp_path: Path) -> None:
    parent, edge = away(), FakeNode()
    with edge:
        layers = layer_tables("parent", "edge") + fake_table(edge.url, name="edge-1")
        whole = layers + fake_table(parent.url, name="parent-1", layer="parent")
        with engine_of("restart", tmp_path, whole) as engine:
            ids = submit_both(engine)
            wait_until(lambda: edge.urls, what="the edge being purged at once, below an unreachable parent")
            change(engine, layers)
            engine.wait_for(ids[1], "partial")
            wait_until(lambda: engine.task(ids[0])["delayed"] == 2, what="the first task being parked again")
            assert [engine.task(task_id)["counter"] for task_id in ids] == [0, 0]
            parent.start()
            change(engine, whole)
            for task_id in ids:
                task = engine.wait_for(task_id)
                assert (task["state"], task["counter"], task["total"]) == ("done", 2, 2)
            parent.stop()


def test_below_a_parent_that_is_gone_for_too_long_the_edge_counts(tmp_path: Path) -> None:
    parent, edge = away(), FakeNode()
    with edge:
        layers = layer_tables("parent", "edge") + fake_table(edge.url, name="edge-1")
        whole = layers + fake_table(parent.url, name="parent-1", layer="parent")
        with engine_of("restart", tmp_path, whole, gone_after_s=0.5) as engine:
            ids = submit_both(engine)
            change(engine, layers)
            for task_id in ids:
                task = engine.wait_for(task_id)
                assert (task["state"], task["counter"], task["failed"], task["total"]) == ("failed", 1, 1, 2)
                layer = {one["name"]: (one["counter"], one["failed"]) for one in task["layers"]}
                assert layer == {"parent": (0, 1), "edge": (1, 0)}
                assert "longer than gone_after_s (0.5 s)" in task["errors"][-1]["reason"]


def test_what_another_cache_cannot_do_waits_until_the_node_can(tmp_path: Path, store: str) -> None:
    """The rows keep their operation, in each store: none of them is sent as something else."""
    node = away()
    as_varnish = store + fake_table(node.url, name="edge-1")
    with engine_of("restart", tmp_path, as_varnish) as engine:
        ids = submit_both(engine, kind="prefix")
        urls = submit_both(engine)
        node.start()
        change(engine, store + fake_table(node.url, name="edge-1", driver="squid"))
        for task_id in urls:
            assert engine.wait_for(task_id)["state"] == "done"
        wait_until(lambda: engine.node("edge-1")["state"] == "ready", what="the node being ready")
        assert {request.method for request in node.requests} == {"PURGE"}
        assert sorted(node.urls) == [f"{FAR}/due/", f"{FAR}/long/"]
        for task_id in ids:
            why = "incapable: squid, as edge-1 is configured now, "
            wait_until(partial(says, engine, task_id, "edge-1", why), what="why")
            waiting = engine.task(task_id)
            assert (waiting["delayed"], waiting["total"]) == (1, 1)
        [held] = engine.node("edge-1")["held"]
        assert (held["host"], held["operation"], held["subtasks"]) == ("img.example.com", "purge_prefix", 2)
        assert held["reason"].startswith("incapable: squid, ")
        change(engine, as_varnish)
        for task_id in ids:
            assert engine.wait_for(task_id)["state"] == "done"
        assert engine.node("edge-1")["held"] == []
        assert [request.method for request in node.requests][2:] == ["BAN", "BAN"]
        node.stop()


def test_below_a_parent_that_is_away_another_cache_is_sent_nothing_that_it_cannot_do(tmp_path: Path) -> None:
    parent, edge = away(), away()
    layers = layer_tables("parent", "edge") + fake_table(parent.url, name="parent-1", layer="parent")
    with engine_of("restart", tmp_path, layers + fake_table(edge.url, name="edge-1"), due_s=0.1) as engine:
        key = engine.submit([{"host": "img.example.com", "key": "product-7"}], kind="key")
        ids = [key, engine.submit([f"{FAR}/a/"], kind="prefix"), engine.submit([f"{FAR}/b"])]
        for task_id in ids:
            engine.wait_for(task_id, "partial")
        change(engine, layers + fake_table(edge.url, name="edge-1", driver="squid"))
        edge.start()
        wait_until(lambda: f"{FAR}/b" in edge.urls, what="the purge that is sent early")
        assert edge.urls == [f"{FAR}/b"]
        edge.stop()
        assert "Traceback" not in engine.log()


@pytest.mark.redis
def test_an_engine_with_another_configuration_takes_over_what_it_does_not_know(tmp_path: Path) -> None:
    """What was on the wire, and what waits: for a node that it has not, and for one that is a Squid there."""
    held, goes, other = Held(), away(), away()
    with FakeNode(held) as stays, RedisServer(tmp_path) as redis:
        store = f'[store]\nurl = "{redis.url}"\ntakeover_s = 1\n'
        both = store + fake_table(stays.url, name="stays")
        whole = both + fake_table(goes.url, name="goes") + fake_table(other.url, name="other")
        changed = both + fake_table(other.url, name="other", driver="squid")
        (tmp_path / "one").mkdir()
        (tmp_path / "two").mkdir()
        one = EngineProcess(tmp_path / "one", whole, name="one", request_timeout_s=20)
        with one, EngineProcess(tmp_path / "two", changed, name="two", drain_timeout_s=1) as two:
            task_id = one.submit([f"{FAR}/a/"], kind="prefix")
            wait_until(lambda: stays.requests, what="the purge being on the wire")
            one.kill()
            held.released.set()
            wait_until(partial(has_counted, two, task_id, 1), what="the takeover")
            wait_until(partial(says, two, task_id, "goes", "gone: "), what="why")
            assert says(two, task_id, "other", "incapable: squid, ")
            task = two.task(task_id)
            assert (task["total"], task["counter"], task["delayed"], task["failed"]) == (3, 1, 2, 0)

            def is_shown_as_gone() -> bool:
                nodes = two.get("/v1/engine/nodes")["nodes"]
                return [node["state"] for node in nodes if node["name"] == "goes"] == ["gone"]

            wait_until(is_shown_as_gone, what="the dead engine's nodes being gone")
            wait_until(lambda: two.request("DELETE", "/v1/engine/nodes/goes")[0] != 409, what="its burial")
            wait_until(lambda: two.task(task_id)["failed"] == 1, what="what is left of it failing")
        with other, EngineProcess(tmp_path / "one", whole, name="one") as three:
            task = three.wait_for(task_id)
            assert (task["state"], task["counter"], task["failed"], task["total"]) == ("failed", 2, 1, 3)
            assert [request.method for request in other.requests] == ["BAN"]


def two_engines(folder: Path, redis: RedisServer, stays: FakeNode, goes: FakeNode, **settings: Any) -> Any:
    """Return two engines of one store, of which the first one alone knows a node; *settings*: the other's."""
    tables = f'[store]\nurl = "{redis.url}"\ntakeover_s = 1\n' + fake_table(stays.url, name="stays")
    (folder / "one").mkdir()
    (folder / "two").mkdir()
    knows = EngineProcess(folder / "one", tables + fake_table(goes.url, name="goes"), name="one")
    return knows, EngineProcess(folder / "two", tables, name="two", **settings)


@pytest.mark.redis
def test_rows_of_a_node_wait_while_the_one_engine_that_knows_it_is_away(tmp_path: Path) -> None:
    goes = away()
    with FakeNode() as stays, RedisServer(tmp_path) as redis:
        knows, other = two_engines(tmp_path, redis, stays, goes)
        with other, knows:
            ids = submit_both(knows)
            assert knows.stop() == 0
            for task_id in ids:
                wait_until(partial(says, other, task_id, "goes", "gone: not configured since 20"), what="why")
                waiting = other.task(task_id)
                assert (waiting["counter"], waiting["delayed"], waiting["failed"]) == (1, 1, 0)
            with goes:
                knows.start()
                for task_id in ids:
                    task = other.wait_for(task_id)
                    assert (task["state"], task["counter"], task["total"]) == ("done", 2, 2)
            assert sorted(goes.urls) == [f"{FAR}/due/", f"{FAR}/long/"]


@pytest.mark.slow
@pytest.mark.redis
def test_rows_of_a_node_fail_when_the_one_engine_that_knows_it_is_away_for_too_long(tmp_path: Path) -> None:
    goes = away()
    with FakeNode() as stays, RedisServer(tmp_path) as redis:
        knows, other = two_engines(tmp_path, redis, stays, goes, gone_after_s=3)
        with other, knows:
            ids = submit_both(knows)
            knows.kill()
            for task_id in ids:
                task = other.wait_for(task_id)
                assert (task["state"], task["counter"], task["failed"], task["total"]) == ("failed", 1, 1, 2)
                reason = re.fullmatch(
                    r"gone: not configured since (\S+), longer than gone_after_s \(3 s\)",
                    task["errors"][-1]["reason"],
                )
                assert reason is not None
                assert task["updated_at"] - datetime.fromisoformat(reason[1]).timestamp() >= 2.5
