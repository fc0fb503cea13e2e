"""A task's whole way on real servers."""

from pathlib import Path

import pytest

from release.lab import caches
from release.lab.origin import Origin
from tests.rigs.engine_process import EngineProcess, get_body, node_table

HOST = "img.example.com"
DRIVERS = ["varnish", "ats", "nginx", "squid"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_purge_brings_new_content(driver: str, origin: Origin, tmp_path: Path) -> None:
    """Warm, change at the origin, purge, new content: on each kind of cache."""
    with (
        caches.start_cache(driver, tmp_path, name="edge-1", backend=origin.address) as cache,
        EngineProcess(tmp_path, node_table(cache, name="edge-1")) as engine,
    ):
        origin.set(HOST, "/a.jpg", b"old")
        assert get_body(cache, "/a.jpg") == b"old"
        origin.set(HOST, "/a.jpg", b"new")
        assert get_body(cache, "/a.jpg") == b"old"
        task = engine.wait_for(engine.submit([f"http://{HOST}/a.jpg"]))
        assert (task["state"], task["counter"], task["errors"]) == ("done", 1, [])
        assert get_body(cache, "/a.jpg") == b"new"


@pytest.mark.parametrize("driver", DRIVERS)
def test_purge_takes_the_very_url_and_nothing_else(driver: str, origin: Origin, tmp_path: Path) -> None:
    """Query, percent-encoding and host are part of the name; neighbours stay cached."""
    purged = ["/a?x=1&y=%2F", "/a%20b", "/dir/%C3%A9?q=%26", "//double", "/semi;colon", "/plus+and~tilde"]
    kept = ["/a", "/a?x=1", "/a?x=1&y=/", "/a%2520b", "/dir/", "/semi", "/plus+and"]
    with (
        caches.start_cache(driver, tmp_path, name="edge-1", backend=origin.address) as cache,
        EngineProcess(tmp_path, node_table(cache, name="edge-1")) as engine,
    ):
        for path in purged + kept:
            assert get_body(cache, path).startswith(b"v1 ")
        get_body(cache, "/a%20b", host="other.example.com")
        origin.version = "v2"
        task = engine.wait_for(engine.submit([f"http://{HOST}{path}" for path in purged]))
        assert (task["state"], task["counter"]) == ("done", len(purged))
        fresh = {path: get_body(cache, path)[:2] for path in purged + kept}
        assert fresh == {**dict.fromkeys(purged, b"v2"), **dict.fromkeys(kept, b"v1")}
        assert get_body(cache, "/a%20b", host="other.example.com").startswith(b"v1 ")


@pytest.mark.parametrize("driver", DRIVERS)
def test_purge_of_what_is_not_cached_is_done(driver: str, origin: Origin, tmp_path: Path) -> None:
    """Not cached is what was wanted; nothing of it reaches the origin."""
    with (
        caches.start_cache(driver, tmp_path, name="edge-1", backend=origin.address) as cache,
        EngineProcess(tmp_path, node_table(cache, name="edge-1")) as engine,
    ):
        task = engine.wait_for(engine.submit([f"http://{HOST}/never-seen"]))
        assert (task["state"], task["counter"], task["errors"]) == ("done", 1, [])
        node = engine.node("edge-1")
        assert (node["state"], node["acked"], node["refused"]) == ("ready", 1, 0)
        assert not origin.methods
        assert (task["absent"], node["absent"]) == (1, 1)
        get_body(cache, "/seen")
        task = engine.wait_for(engine.submit([f"http://{HOST}/{name}" for name in ("seen", "not-seen")]))
        assert (task["counter"], task["absent"]) == (2, 1)
        assert engine.node("edge-1")["absent"] == 2


@pytest.mark.parametrize("driver", DRIVERS)
def test_three_thousand_urls_are_all_acked(driver: str, origin: Origin, tmp_path: Path) -> None:
    """Each counted once, over every pipeline and every connection that the cache closes on the way."""
    options = {"keepalive_requests": 50} if driver == "nginx" else {}
    with (
        caches.start_cache(driver, tmp_path, name="edge-1", backend=origin.address, **options) as cache,
        EngineProcess(tmp_path, node_table(cache, name="edge-1")) as engine,
    ):
        warm = [f"/{number}" for number in range(0, 3000, 100)]
        for path in warm:
            get_body(cache, path)
        origin.version = "v2"
        task = engine.wait_for(engine.submit([f"http://{HOST}/{number}" for number in range(3000)]))
        assert (task["state"], task["counter"], task["total"], task["failed"]) == ("done", 3000, 3000, 0)
        assert all(get_body(cache, path).startswith(b"v2 ") for path in warm)
        stats = engine.get("/v1/engine/stats")
        assert stats["qps_boss"]["count"] == 3000
        assert stats["qps_proxy"]["count"] == 3000
        assert stats["pushing_queue"] == 0


def test_one_task_purges_all_kinds_of_caches_at_once(origin: Origin, tmp_path: Path) -> None:
    """Four nodes of four makers: one task, four acks; `nodes` narrows the next one to one of them."""
    running = [
        caches.start_cache(driver, tmp_path, name=driver, backend=origin.address) for driver in DRIVERS
    ]
    try:
        with EngineProcess(
            tmp_path, "".join(node_table(cache, name=cache.driver) for cache in running)
        ) as engine:
            for cache in running:
                get_body(cache, "/a")
            origin.version = "v2"
            task = engine.wait_for(engine.submit([f"http://{HOST}/a"]))
            assert (task["state"], task["counter"], task["total"]) == ("done", 4, 4)
            assert [get_body(cache, "/a")[:2] for cache in running] == [b"v2"] * 4
            origin.version = "v3"
            task = engine.wait_for(engine.submit([f"http://{HOST}/a"], nodes=["nginx"]))
            assert (task["state"], task["total"]) == ("done", 1)
            assert [get_body(cache, "/a")[:2] for cache in running] == [b"v2", b"v2", b"v3", b"v2"]
    finally:
        for cache in running:
            cache.stop()
