"""Purges verified on real caches; and caches that ack and keep, found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from release.lab import caches
from tests.rigs.engine_process import EngineProcess, get_body, layer_tables, node_table
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from release.lab.origin import Origin

HOST = "img.example.com"
URL = f"http://{HOST}/page"


def origin_table(origin: Origin) -> str:
    return f'[[origin]]\nhost = "*.example.com"\nurl = "{origin.url}"\n'


@pytest.mark.slow
def test_a_purge_of_every_kind_of_cache_is_verified(origin: Origin, tmp_path: Path) -> None:
    """A parent and two edges of Varnish, and the three others beside them; with and without an origin."""
    with (
        caches.start_varnish(tmp_path, name="parent-1", backend=origin.address, is_parent=True) as parent,
        caches.start_varnish(tmp_path, name="edge-1", backend=parent.address) as one,
        caches.start_varnish(tmp_path, name="edge-2", backend=parent.address) as two,
        caches.start_nginx(tmp_path, name="nginx-1", backend=origin.address) as nginx,
        caches.start_ats(tmp_path, name="ats-1", backend=origin.address) as ats,
        caches.start_squid(tmp_path, name="squid-1", backend=origin.address) as squid,
    ):
        alone = [(nginx, "nginx-1"), (ats, "ats-1"), (squid, "squid-1")]
        tables = (
            layer_tables("parent", "edge")
            + node_table(parent, name="parent-1", layer="parent")
            + node_table(one, name="edge-1", parents=["parent-1"])
            + node_table(two, name="edge-2", parents=["parent-1"])
            + "".join(node_table(cache, name=name, parents=[]) for cache, name in alone)
        )
        with EngineProcess(tmp_path, tables + origin_table(origin)) as engine:
            task = {}
            for headers in ({}, {"ETag": '"1"'}, {"ETag": '"2"'}):
                for cache in (one, two, nginx, ats, squid):
                    get_body(cache, "/page")
                body = f"{headers}".encode()
                origin.set(HOST, "/page", body, headers={"Cache-Control": "max-age=600", **headers})
                task = engine.wait_for(engine.submit([URL], verify=True))
                assert (task["state"], task["verify"]["verified"]) == ("done", 6), task
                assert all(get_body(cache, "/page") == body for cache in (one, two, nginx, ats, squid))
            assert task["verify"]["rules"] == {"etag": 6}
        with EngineProcess(tmp_path, tables) as engine:
            task = engine.wait_for(engine.submit([URL], verify=True))
            assert task["state"] == "done"
            unsure = {node["name"] for node in task["nodes"] if not node["verified_at"]}
            assert "nginx-1" in unsure
            assert task["verify"]["rules"].get("time", 0) == 6 - len(unsure) >= 3, task["verify"]


def test_a_varnish_that_purges_another_key_is_found(origin: Origin, tmp_path: Path) -> None:
    """It acks, and keeps: its hash has a word that the purge's has not."""
    with caches.start_varnish(tmp_path, name="edge-1", backend=origin.address) as edge:
        found = False
        for path in (tmp_path / "edge-1").glob("**/*.vcl"):
            text = path.read_text()
            path.write_text(text + '\nsub vcl_hash { if (req.method == "PURGE") { hash_data("other"); } }\n')
            found = True
        assert found
        edge.stop()
        edge.start()
        with EngineProcess(tmp_path, node_table(edge, name="edge-1") + origin_table(origin)) as engine:
            get_body(edge, "/page")
            origin.version = "v2"
            task = engine.wait_for(engine.submit([URL], verify={"sample": 1}))
            assert (task["state"], task["counter"], task["verify"]["stale"]) == ("failed", 1, 1)
            assert "still serves" in task["errors"][0]["reason"]
            wait_until(lambda: "stale:edge-1" in engine.log(), what="the alert")
