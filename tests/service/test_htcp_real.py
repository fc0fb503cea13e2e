"""What MediaWiki sends, and what a real Squid sends, makes a page of a real Varnish fresh."""

import socket
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from release.lab import caches
from release.lab.caches import Cache
from release.lab.origin import Origin
from tests.fakes.cache_clients import SITE
from tests.fakes.htcp_clients import mediawiki
from tests.rigs.door import DoorEngine
from tests.rigs.engine_process import get_body, node_table
from tests.waiting import wait_until


class Site(NamedTuple):
    """An origin, a Varnish, and an engine with an HTCP door."""

    origin: Origin
    cache: Cache
    engine: DoorEngine


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("htcp")
    with (
        Origin() as origin,
        caches.start_varnish(folder, name="edge-1", backend=origin.address) as cache,
        DoorEngine(folder, node_table(cache, name="edge-1"), SITE, door={"kind": "htcp"}) as engine,
    ):
        yield Site(origin, cache, engine)


def make_stale(site: Site, path: str) -> None:
    """Have the cache serve the first version of a page while the origin has the second."""
    site.origin.set(SITE, path, b"v1")
    assert get_body(site.cache, path, host=SITE) == b"v1"
    site.origin.set(SITE, path, b"v2")
    assert get_body(site.cache, path, host=SITE) == b"v1"


def wait_until_fresh(site: Site, path: str) -> None:
    wait_until(lambda: get_body(site.cache, path, host=SITE) == b"v2", what=f"{path} being fresh")


def test_a_datagram_of_mediawiki_makes_a_page_fresh(site: Site) -> None:
    make_stale(site, "/wiki/Page")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(mediawiki(f"http://{SITE}/wiki/Page"), ("127.0.0.1", site.engine.door_port))
    wait_until_fresh(site, "/wiki/Page")
