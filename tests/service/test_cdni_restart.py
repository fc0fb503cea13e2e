"""What a CDNI door has answered 201 is there again: after kill -9, after reloads, with any worker."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
from typing import TYPE_CHECKING

import pytest

from tests.fakes.node import FakeNode, Held
from tests.rigs.cdni import CdniEngine, SupervisedCdniEngine, client_table, site_tables
from tests.rigs.engine_process import fake_table
from tests.rigs.redis_servers import RedisServer
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

BASE = "https://www.example.com"
ACCESS = client_table("ucdn", "*.example.com") + site_tables("*.example.com")


def nodes(node: FakeNode) -> str:
    return fake_table(node.url, name="edge-1", key_mode="ban")


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_triggers_survive_a_crash(store: str, tmp_path: Path) -> None:
    """One that is at work goes on, one that has settled stays so, a deleted one stays away."""
    held = Held()
    with FakeNode(held) as node, RedisServer(tmp_path / "redis") as redis:
        tables = nodes(node) + ACCESS
        if store == "redis":
            tables = f'[store]\nurl = "{redis.url}"\ntakeover_s = 1\n' + tables
        with CdniEngine(tmp_path, tables) as engine:
            upstream = engine.upstream("ucdn")
            active = upstream.create("purge", content_urls=[f"{BASE}/a"], content_ccid=["c"])
            failed = upstream.create("purge", content_urls=["https://nobody.example.net/"])
            deleted = upstream.create("purge", content_urls=[f"{BASE}/b"])
            assert upstream.ask("DELETE", deleted).status == 204
            engine.kill()
            held.released.set()
            engine.start()
            assert upstream.listed() == [active, failed]
            assert upstream.wait_for(active)["status"] == "complete"
            assert upstream.status(failed)["status"] == "failed"
            assert upstream.listed("complete") == [active]
            assert upstream.ask("GET", deleted).status == 404


@pytest.mark.slow
def test_every_engine_of_one_redis_has_every_trigger(tmp_path: Path) -> None:
    """What one has created the other shows, cancels and deletes, and goes on with when that one is gone."""
    held = Held()
    with FakeNode(held) as node, RedisServer(tmp_path / "redis") as redis:
        tables = f'[store]\nurl = "{redis.url}"\ntakeover_s = 1\n' + nodes(node) + ACCESS
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
        with (
            CdniEngine(tmp_path / "a", tables, drain_timeout_s=2) as first,
            CdniEngine(tmp_path / "b", tables, drain_timeout_s=2) as second,
        ):
            one, other = first.upstream("ucdn"), second.upstream("ucdn")
            made = [one.create("purge", content_urls=[f"{BASE}/{number}"]) for number in range(4)]
            assert other.listed() == made
            assert {other.status(path)["status"] for path in made} <= {"pending", "active"}
            assert other.cancel(made[0]).status in {200, 202}
            assert other.wait_for(made[0])["status"] == "cancelled"
            assert other.ask("DELETE", made[1]).status == 204
            assert one.ask("GET", made[1]).status == 404
            first.kill()
            held.released.set()
            for path in made[2:]:
                assert other.wait_for(path, timeout_s=40)["status"] == "complete"
            assert other.listed("complete") == made[2:]


@pytest.mark.slow
def test_every_worker_has_every_trigger(tmp_path: Path) -> None:
    """Created, found, cancelled and deleted on connections of any worker, before and after a reload."""
    held = Held()
    with (
        FakeNode(held) as node,
        SupervisedCdniEngine(tmp_path, nodes(node) + ACCESS, workers=2, drain_timeout_s=3) as engine,
    ):
        upstream = engine.upstream("ucdn")
        made = [upstream.create("purge", content_urls=[f"{BASE}/{number}"]) for number in range(8)]
        assert [upstream.status(path)["status"] in {"pending", "active"} for path in made] == [True] * 8
        assert upstream.listed() == sorted(made)
        engine.reload()
        assert upstream.listed() == sorted(made)
        assert upstream.cancel(*made[:2]).status == 200
        assert upstream.ask("DELETE", made[2]).status == 204
        held.released.set()
        for path in made[3:]:
            assert upstream.wait_for(path)["status"] == "complete"
        assert upstream.listed("failed") == sorted(made[:2])
        worker = engine.workers()[0]
        os.kill(worker["pid"], signal.SIGKILL)
        assert upstream.listed("complete") == sorted(made[3:])


@pytest.mark.slow
def test_settled_triggers_go_when_they_are_stale(tmp_path: Path) -> None:
    with (
        FakeNode() as node,
        CdniEngine(tmp_path, nodes(node) + ACCESS, door={"stale_resource_s": 1}) as engine,
    ):
        upstream = engine.upstream("ucdn")
        path = upstream.create("purge", content_urls=[f"{BASE}/a"])
        assert upstream.ask("GET", "/triggers").json["staleresourcetime"] == 1
        wait_until(lambda: upstream.listed() == [], what="the trigger being forgotten", timeout_s=30)
        assert upstream.ask("GET", path).status == 404


@pytest.mark.slow
def test_a_trigger_that_cannot_be_kept_is_taken_back(tmp_path: Path) -> None:
    """Another process holds the file for longer than the engine waits: 503, and its task is cancelled."""
    held = Held()
    with FakeNode(held) as node, CdniEngine(tmp_path, nodes(node) + ACCESS) as engine:
        upstream = engine.upstream("ucdn")
        with contextlib.closing(sqlite3.connect(tmp_path / "var/triggers.db", isolation_level=None)) as file:
            file.execute("BEGIN IMMEDIATE")
            answer = upstream.trigger("purge", content_urls=[f"{BASE}/a"])
            assert (answer.status, "triggers cannot be read or written" in answer.detail) == (503, True)
            file.execute("ROLLBACK")
        assert upstream.listed() == []
        page = engine.request("GET", "/v1/engine/tasks", headers={"Authorization": "Bearer ucdn"})[2]
        assert [task["state"] for task in json.loads(page)["tasks"]] == ["cancelled"]
        assert upstream.trigger("purge", content_urls=[f"{BASE}/a"]).status == 201
        held.released.set()
