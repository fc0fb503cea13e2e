"""What a CDNI door has answered 201 is there again: after kill -9, after reloads, with any worker."""

from __future__ import annotations

import os
import signal
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
