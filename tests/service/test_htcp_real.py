"""What MediaWiki sends, and what a real Squid sends, makes a page of a real Varnish fresh."""

import http.client
import socket
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from release.lab import caches
from release.lab.caches import Cache, free_port
from release.lab.origin import Origin
from tests.fakes.cache_clients import SITE
from tests.fakes.htcp_clients import clr, mediawiki
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


class Squid(NamedTuple):
    """A Squid that tells the door what it is told."""

    cache: Cache
    htcp_port: int

    def ask(self, method: str, path: str) -> int:
        """Send a request through it; return the status of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.cache.port, timeout=10)
        connection.request(method, path, b"x" if method == "POST" else None, {"Host": SITE})
        try:
            return connection.getresponse().status
        finally:
            connection.close()

    def log(self) -> str:
        return (self.cache.workdir / "cache.log").read_text(errors="replace")


@pytest.fixture(scope="module")
def squid(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Squid]:
    """In front of the same origin; its neighbour is the door, which it also asks before each fetch."""
    folder = tmp_path_factory.mktemp("squid")
    port = free_port()
    with caches.start_squid(folder, name="squid-1", backend=site.origin.address) as cache:
        cache.stop()
        config = cache.workdir / "squid.conf"
        lines = (
            f"htcp_port {port}",
            "udp_incoming_address 127.0.0.1",
            "htcp_clr_access allow all",
            f"cache_peer 127.0.0.1 sibling 9 {site.engine.door_port} htcp=forward-clr name=door no-digest",
            "debug_options 31,3",
        )
        config.write_text(config.read_text() + "\n".join(lines) + "\n")
        cache.start()
        yield Squid(cache, port)


def test_a_purge_of_a_squid_and_a_change_through_it_make_a_page_of_varnish_fresh(
    site: Site, squid: Squid
) -> None:
    """It sends a CLR for a page that it held and purged, and for one that a POST has changed."""
    for path, method in (("/squid/purge", "PURGE"), ("/squid/post", "POST")):
        make_stale(site, path)
        assert get_body(squid.cache, path, host=SITE) == b"v2"
        assert squid.ask(method, path) == 200
        wait_until_fresh(site, path)


def test_a_clr_that_a_squid_passes_on_makes_a_page_of_varnish_fresh(site: Site, squid: Squid) -> None:
    make_stale(site, "/squid/forward")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(clr(f"http://{SITE}/squid/forward"), ("127.0.0.1", squid.htcp_port))
    wait_until_fresh(site, "/squid/forward")


def test_a_squid_can_read_the_answer_to_its_tst(site: Site, squid: Squid) -> None:
    """Its log says so; of two octets, which RFC 2756 has, it says ``bad DETAIL``."""
    site.origin.set(SITE, "/squid/tst", b"v1")
    assert get_body(squid.cache, "/squid/tst", host=SITE) == b"v1"
    wait_until(lambda: "htcpHandleTstResponse: key" in squid.log(), what="an answer that Squid has read")
    assert "bad DETAIL" not in squid.log()
