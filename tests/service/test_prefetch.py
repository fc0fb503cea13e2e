"""Prefetch: the visitor's GET finds the object in the cache already."""

import threading
from pathlib import Path

import pytest

from release.lab import caches
from release.lab.origin import Origin
from tests.rigs.engine_process import (
    EngineProcess,
    get_body,
    get_page,
    layer_tables,
    node_table,
)

HOST = "img.example.com"
DRIVERS = ["varnish", "ats", "nginx", "squid"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_prefetched_page_is_a_hit(driver: str, origin: Origin, tmp_path: Path) -> None:
    """The origin is asked by the prefetch and not by the visitor after it.

    So it is of redirects and missing pages, where ``prefetch_statuses`` has them; Squid keeps none of these.
    """
    paths = ["/a", "/b?q=1", "/c%20d"]
    kept = {"Cache-Control": "public, max-age=3600"}
    origin.set(HOST, "/moved", b"", status=301, headers={**kept, "Location": f"http://{HOST}/a"})
    origin.set(HOST, "/gone", b"gone", status=404, headers=kept)
    with (
        caches.start_cache(driver, tmp_path, name="edge-1", backend=origin.address) as cache,
        EngineProcess(tmp_path, node_table(cache, name="edge-1", prefetch_statuses=[301, 404])) as engine,
    ):
        others = {"/moved": 301} if driver == "squid" else {"/moved": 301, "/gone": 404}
        task = engine.wait_for(engine.submit([f"http://{HOST}{path}" for path in others], action="prefetch"))
        assert (task["state"], task["errors"]) == ("done", [])
        for path, status in others.items():
            assert get_page(cache, path)[0] == status
            assert origin.hits[HOST, path] == 1
        task_id = engine.submit([f"http://{HOST}{path}" for path in paths], action="prefetch")
        task = engine.wait_for(task_id)
        assert (task["action"], task["state"], task["counter"]) == ("prefetch", "done", 3)
        hits = [origin.hits[HOST, path] for path in paths]
        assert hits == [1, 1, 1]
        for path in paths:
            assert get_body(cache, path) == f"v1 {HOST}{path}".encode()
        assert [origin.hits[HOST, path] for path in paths] == hits


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_purge_can_fetch_again(driver: str, origin: Origin, tmp_path: Path) -> None:
    """`prefetch: true`: purge, then fetch; the visitor gets new content without asking the origin."""
    with (
        caches.start_cache(driver, tmp_path, name="edge-1", backend=origin.address) as cache,
        EngineProcess(tmp_path, node_table(cache, name="edge-1")) as engine,
    ):
        get_body(cache, "/a")
        origin.version = "v2"
        task = engine.wait_for(engine.submit([f"http://{HOST}/a"], prefetch=True))
        assert (task["state"], task["counter"], task["total"]) == ("done", 2, 2)
        assert origin.hits[HOST, "/a"] == 2
        assert get_body(cache, "/a").startswith(b"v2 ")
        assert origin.hits[HOST, "/a"] == 2


def test_a_big_object_is_drained_and_cached(origin: Origin, tmp_path: Path) -> None:
    """Tens of megabytes pass through the engine's one small buffer."""
    with (
        caches.start_nginx(tmp_path, name="edge-1", backend=origin.address) as cache,
        EngineProcess(tmp_path, node_table(cache, name="edge-1")) as engine,
    ):
        origin.set_size(HOST, "/big", 48 * 1024 * 1024)
        task = engine.wait_for(engine.submit([f"http://{HOST}/big"], action="prefetch"))
        assert task["state"] == "done"
        assert len(get_body(cache, "/big")) == 48 * 1024 * 1024
        assert origin.hits[HOST, "/big"] == 1


def test_an_object_over_the_limit_fails_and_the_others_do_not(origin: Origin, tmp_path: Path) -> None:
    """prefetch_max_bytes is a limit for one object, not the end of the task's other targets."""
    with (
        caches.start_nginx(tmp_path, name="edge-1", backend=origin.address) as cache,
        EngineProcess(tmp_path, node_table(cache, name="edge-1"), prefetch_max_bytes=100_000) as engine,
    ):
        origin.set_size(HOST, "/big", 8 * 1024 * 1024)
        targets = [f"http://{HOST}/{name}" for name in ("one", "big", "two")]
        task = engine.wait_for(engine.submit(targets, action="prefetch"))
        assert (task["state"], task["counter"], task["failed"]) == ("failed", 2, 1)
        assert task["errors"][0]["target"] == f"http://{HOST}/big"
        assert "prefetch_max_bytes (100000" in task["errors"][0]["reason"]


def test_only_2xx_is_a_prefetched_page(origin: Origin, tmp_path: Path) -> None:
    """A 404 fails at once and says so; a 503 is tried again, and done when the origin recovers."""
    origin.set(HOST, "/gone", b"no", status=404)
    with (
        caches.start_nginx(tmp_path, name="edge-1", backend=origin.address) as cache,
        EngineProcess(tmp_path, node_table(cache, name="edge-1")) as engine,
    ):
        task = engine.wait_for(engine.submit([f"http://{HOST}/gone"], action="prefetch"))
        assert task["state"] == "failed"
        assert task["errors"] == [
            {"node": "edge-1", "target": f"http://{HOST}/gone", "reason": "answered 404 to a prefetch"}
        ]
        assert origin.hits[HOST, "/gone"] == 1
        origin.status = 503
        task_id = engine.submit([f"http://{HOST}/later"], action="prefetch")
        assert get_page(cache, "/x")[0] == 503
        assert engine.task(task_id)["state"] == "running"
        origin.status = None
        assert engine.wait_for(task_id)["state"] == "done"


def test_prefetches_keep_to_their_concurrency(origin: Origin, tmp_path: Path) -> None:
    """A stampede on the origin after a big prefetch is what the limit is there for."""
    origin.delay_s = 0.05
    most = 0
    over = threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.wait(0.002):
            most = max(most, engine.node("edge-1")["in_flight"])

    with (
        caches.start_nginx(tmp_path, name="edge-1", backend=origin.address) as cache,
        EngineProcess(tmp_path, node_table(cache, name="edge-1"), prefetch_concurrency=3) as engine,
    ):
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            task_id = engine.submit([f"http://{HOST}/{n}" for n in range(60)], action="prefetch")
            assert engine.wait_for(task_id)["state"] == "done"
        finally:
            over.set()
            watcher.join()
        assert most == 3


def test_parents_are_filled_before_edges(origin: Origin, tmp_path: Path) -> None:
    """A purge with prefetch over two layers: the origin is asked once, by the parent."""
    with (
        caches.start_varnish(tmp_path, name="parent", backend=origin.address, is_parent=True) as parent,
        caches.start_varnish(tmp_path, name="edge-1", backend=parent.address) as one,
        caches.start_varnish(tmp_path, name="edge-2", backend=parent.address) as two,
        EngineProcess(
            tmp_path,
            layer_tables("parent", "edge")
            + node_table(parent, name="parent", layer="parent")
            + node_table(one, name="edge-1")
            + node_table(two, name="edge-2"),
        ) as engine,
    ):
        for edge in (one, two):
            get_body(edge, "/a")
        origin.version = "v2"
        task = engine.wait_for(engine.submit([f"http://{HOST}/a"], prefetch=True))
        assert (task["state"], task["total"]) == ("done", 6)
        assert origin.hits[HOST, "/a"] == 2
        assert [get_body(edge, "/a")[:2] for edge in (one, two, parent)] == [b"v2"] * 3
        assert origin.hits[HOST, "/a"] == 2
