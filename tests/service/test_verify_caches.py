"""Purges verified on real caches; and caches that ack and keep, found."""

from __future__ import annotations

import email.utils
import gzip
import re
import time
from typing import TYPE_CHECKING

import pytest

from release.lab import caches
from release.lab.origin import Content
from tests.rigs.engine_process import EngineProcess, get_body, get_page, layer_tables, node_table
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from release.lab.caches import Cache
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
            verify_what_is_no_plain_page(engine, origin, [one, two, nginx, ats, squid])
            verify_what_goes_wrong_at_the_origin(engine, origin)
        with EngineProcess(tmp_path, tables) as engine:
            verify_by_a_clock_that_is_wrong(engine, origin)
            task = engine.wait_for(engine.submit([URL], verify=True))
            assert task["state"] == "done"
            unsure = {node["name"] for node in task["nodes"] if not node["verified_at"]}
            assert "nginx-1" in unsure
            assert task["verify"]["rules"].get("time", 0) == 6 - len(unsure) >= 3, task["verify"]
            verify_a_node_that_goes_down(engine, squid)


def url(path: str) -> str:
    return f"http://{HOST}{path}"


def verify_what_is_no_plain_page(engine: EngineProcess, origin: Origin, entrances: list[Cache]) -> None:
    """Weak ETags, redirects, pages that go, and bodies that the origin packs."""

    def publish(word: str, status: int) -> None:
        keep = {"Cache-Control": "max-age=600"}
        body = word.encode()
        packed = {**keep, "Content-Encoding": "gzip"}
        origin.set(HOST, "/weak", body, headers={**keep, "ETag": 'W/"same"'})
        origin.set(HOST, "/moved", b"", headers={**keep, "Location": f"/{word}"}, status=302)
        origin.set(HOST, "/gone", body, headers=keep, status=status)
        origin.set(HOST, "/packed", gzip.compress(body, mtime=0), headers=packed)

    paths = ("/weak", "/moved", "/gone", "/packed")
    publish("old", 200)
    for cache in entrances:
        for path in paths:
            get_page(cache, path)
    publish("new", 404)
    task = engine.wait_for(engine.submit([url(path) for path in paths], verify=True))
    assert (task["state"], task["verify"]["verified"]) == ("done", 24), task
    assert task["verify"]["rules"] == {"digest": 12, "status": 12}


def verify_what_goes_wrong_at_the_origin(engine: EngineProcess, origin: Origin) -> None:
    """It changes between two answers, is slow, and goes down; nothing of that is an alarm."""
    told = origin.content
    bodies = [b"one"]
    origin.content = lambda host, path: Content(body=bodies.pop() if bodies else b"two")  # type: ignore[method-assign]
    task = engine.wait_for(engine.submit([URL], verify=True))
    assert (task["state"], task["verify"]["verified"]) == ("done", 6), task
    origin.content = told  # type: ignore[method-assign]
    origin.delay_s = 0.3
    task = engine.wait_for(engine.submit([URL], verify=True))
    assert (task["state"], task["verify"]["verified"]) == ("done", 6), task
    origin.delay_s = 0
    origin.stop()
    task = engine.wait_for(engine.submit([URL], verify=True))
    origin.start()
    assert (task["state"], task["verify"]["unverifiable"]) == ("done", 6), task
    assert "stale:" not in engine.log()


def verify_by_a_clock_that_is_wrong(engine: EngineProcess, origin: Origin) -> None:
    """The clock of the origin is five minutes behind that of the cache, which counts its Age by both."""
    date = email.utils.formatdate(time.time() - 300, usegmt=True)
    origin.set(HOST, "/clock", b"page", headers={"Cache-Control": "max-age=900", "Date": date})
    task = engine.wait_for(engine.submit([url("/clock")], verify=True, nodes=["ats-1"]))
    assert (task["state"], task["verify"]["stale"], task["verify"]["unverifiable"]) == ("done", 0, 1)
    assert re.search(r"its Age \(30\d s\)", task["verify"]["reasons"][0]), task["verify"]


def verify_a_node_that_goes_down(engine: EngineProcess, cache: Cache) -> None:
    """Between its ack and the visit, which comes a second later where the Age decides."""
    task_id = engine.submit([url("/down")], verify=True, nodes=["squid-1"])
    wait_until(lambda: engine.task(task_id)["counter"] == 1)
    cache.stop()
    task = engine.wait_for(task_id)
    assert (task["state"], task["verify"]["unverifiable"]) == ("done", 1), task
    assert "a visitor of squid-1: " in task["verify"]["reasons"][0]


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
