"""A task's whole way on real servers."""

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from release import caches
from release.origin import Origin
from tests.flow.engine_process import EngineProcess, node_table

HOST = "img.example.com"


def fetch(cache: caches.Cache, path: str, host: str = HOST) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", cache.port, timeout=10)
    try:
        connection.request("GET", path, headers={"Host": host})
        return connection.getresponse().read()
    finally:
        connection.close()


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


@pytest.mark.parametrize("driver", ["varnish", "ats", "nginx", "squid"])
def test_purge_brings_new_content(driver: str, origin: Origin, tmp_path: Path) -> None:
    """Warm, change at the origin, purge, new content: on each kind of cache."""
    with caches.start_cache(driver, tmp_path, name="edge", backend=origin.address) as cache:
        with EngineProcess(tmp_path, node_table(cache, name="edge-1")) as engine:
            origin.set(HOST, "/a.jpg", b"old")
            assert fetch(cache, "/a.jpg") == b"old"
            origin.set(HOST, "/a.jpg", b"new")
            assert fetch(cache, "/a.jpg") == b"old"
            task = engine.wait_for(engine.submit([f"http://{HOST}/a.jpg"]))
            assert (task["state"], task["counter"], task["errors"]) == ("done", 1, [])
            assert fetch(cache, "/a.jpg") == b"new"
