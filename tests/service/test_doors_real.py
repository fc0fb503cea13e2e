"""What comes in by a door makes pages of a real Varnish fresh, a request for each kind of purge."""

import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from release.lab import caches
from release.lab.caches import Cache
from release.lab.origin import Origin
from tests.fakes.cache_clients import CLIENTS, SHOP, SITE
from tests.rigs.door import DoorEngine
from tests.rigs.engine_process import get_body, node_table

PAGES = {"/a": "", "/news/1": "", "/node/1": "node:1", "/2024/": "post-1 /books/1"}  #: path → its tags


class Site(NamedTuple):
    """An origin, a Varnish, and an engine whose door waits until purges are acked."""

    origin: Origin
    cache: Cache
    engine: DoorEngine


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("door")
    with (
        Origin() as origin,
        caches.start_varnish(folder, name="edge-1", backend=origin.address) as cache,
        DoorEngine(
            folder, node_table(cache, name="edge-1"), SITE, SHOP, door={"wait": "acked", "names": ["varnish"]}
        ) as engine,
    ):
        yield Site(origin, cache, engine)


def publish(site: Site, version: bytes) -> None:
    for host in (SITE, SHOP):
        for path, tags in PAGES.items():
            site.origin.set(host, path, version, headers={"Surrogate-Key": tags} if tags else {})


def fill(site: Site) -> None:
    """Have the cache hold every page in the first version."""
    publish(site, b"v1")
    for host in (SITE, SHOP):
        site.engine.ask(f"BAN / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert fresh(site) == set()


def fresh(site: Site) -> set[str]:
    """Return the pages that visitors get in the second version."""
    return {
        f"{host}{path}"
        for host in (SITE, SHOP)
        for path in PAGES
        if get_body(site.cache, path, host=host) == b"v2"
    }


@pytest.mark.parametrize(
    ("client", "purged"),
    [
        ("W3 Total Cache", {f"{SITE}/a"}),
        ("FOSHttpCache ban", {f"{SITE}/news/1"}),
        ("Drupal tags", {f"{SITE}/node/1", f"{SHOP}/node/1"}),
        ("API Platform ban", {f"{SITE}/2024/", f"{SHOP}/2024/"}),
        ("WordPress regex", {f"{SITE}/2024/"}),
        ("Drupal all", {f"{host}{path}" for host in (SITE, SHOP) for path in PAGES}),
    ],
)
def test_stale_pages_are_fresh_when_the_client_is_answered(client: str, purged: set[str], site: Site) -> None:
    """Those that it names and no others: what the 200 says is so at that moment."""
    fill(site)
    publish(site, b"v2")
    assert fresh(site) == set()
    text = CLIENTS[client].bytes
    if client == "W3 Total Cache":
        text = text.replace(b"/a/", b"/a")
    answer = site.engine.ask(text)
    assert (answer.status, b"subtasks acked" in answer.body) == (200, True), answer
    assert fresh(site) == purged


def test_curl_itself_makes_a_page_fresh(site: Site) -> None:
    """Other clients: ``python -m tests.rigs.real_clients``."""
    fill(site)
    publish(site, b"v2")
    url = f"http://127.0.0.1:{site.engine.door_port}/news/1"
    command = ["curl", "-sS", "--fail", "-X", "PURGE", "-H", f"Host: {SITE}", url]
    answer = subprocess.run(command, capture_output=True, check=True)
    assert b"1 of 1 subtasks acked" in answer.stdout
    assert fresh(site) == {f"{SITE}/news/1"}


def test_an_expression_for_any_part_of_a_path_is_taken_by_a_real_cache(site: Site) -> None:
    fill(site)
    publish(site, b"v2")
    answer = site.engine.ask(rb"BAN / HTTP/1.1" + b"\r\nX-Host: .*\r\nX-Url: /1$|^/a\r\n\r\n")
    assert answer.status == 200, answer
    assert fresh(site) == {f"{host}{path}" for host in (SITE, SHOP) for path in ("/a", "/news/1", "/node/1")}
