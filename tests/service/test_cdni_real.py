"""What comes in by a CDNI door makes pages of a real Varnish fresh, or fetches them; two CDNs in a chain."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

from release.lab import caches
from release.lab.origin import Origin
from tests.rigs.cdni import CdniEngine, Upstream, client_table, site_tables
from tests.rigs.engine_process import get_body, node_table
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from release.lab.caches import Cache

HOST = "www.example.com"
BASE = f"https://{HOST}"
PAGES = {"/a": "", "/News/1": "", "/news/2": "", "/tagged": "collection-1", "/q?x=1": ""}


class Site(NamedTuple):
    """An origin, a Varnish, and an engine with a door for another CDN."""

    origin: Origin
    cache: Cache
    engine: CdniEngine
    upstream: Upstream


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("cdni")
    tables = client_table("ucdn", "*.example.com") + site_tables("*.example.com")
    with (
        Origin() as origin,
        caches.start_varnish(folder, name="edge-1", backend=origin.address) as cache,
        CdniEngine(folder, node_table(cache, name="edge-1") + tables) as engine,
    ):
        yield Site(origin, cache, engine, engine.upstream("ucdn"))


def fill(site: Site) -> None:
    """Have the cache hold every page in the first version, while there is a second one."""
    site.upstream.wait_for(site.upstream.create("purge", content_patterns=[{"pattern": f"{BASE}/*"}]))
    for version in (b"v1", b"v2"):
        for path, tags in PAGES.items():
            site.origin.set(HOST, path, version, headers={"Surrogate-Key": tags} if tags else {})
            assert get_body(site.cache, path, host=HOST) == b"v1"


def fresh(site: Site) -> set[str]:
    return {path for path in PAGES if get_body(site.cache, path, host=HOST) == b"v2"}


@pytest.mark.parametrize(
    ("kind", "about", "expected"),
    [
        ("purge", {"content_urls": [f"{BASE}/a"]}, {"/a"}),
        ("purge", {"content_patterns": [{"pattern": f"{BASE}/news/*"}]}, {"/News/1", "/news/2"}),
        (
            "purge",
            {"content_patterns": [{"pattern": f"{BASE}/news/*", "case-sensitive": True}]},
            {"/news/2"},
        ),
        ("purge", {"content_patterns": [{"pattern": f"{BASE}/*1", "match-query-string": True}]}, {"/News/1"}),
        ("purge", {"content_patterns": [{"pattern": f"{BASE}/?"}]}, {"/a", "/q?x=1"}),
        ("purge", {"content_ccid": ["collection-1"]}, {"/tagged"}),
        ("purge", {"metadata_urls": [f"{BASE}/a"]}, {"/a"}),
        ("invalidate", {"content_urls": [f"http://{HOST}/a"], "content_ccid": ["collection-1"]}, None),
    ],
)
def test_pages_are_fresh_when_the_trigger_is_complete(
    kind: str, about: dict[str, object], expected: set[str] | None, site: Site
) -> None:
    """Those that it names and no others. What is invalidated is asked for again by the first visit or two."""
    fill(site)
    path = site.upstream.create(kind, **about)
    status = site.upstream.wait_for(path)
    assert (status["status"], status.get("errors")) == ("complete", None)
    if expected is not None:
        assert fresh(site) == expected
    else:
        wait_until(lambda: fresh(site) == {"/a", "/tagged"}, what="pages asked for again")


def test_what_is_prepositioned_is_in_the_cache(site: Site) -> None:
    fill(site)
    site.upstream.wait_for(site.upstream.create("purge", content_urls=[f"{BASE}/a"]))
    before = site.origin.hits[HOST, "/a"]
    path = site.upstream.create("preposition", content_urls=[f"{BASE}/a"])
    assert site.upstream.wait_for(path)["status"] == "complete"
    assert site.origin.hits[HOST, "/a"] == before + 1
    assert get_body(site.cache, "/a", host=HOST) == b"v2"
    assert site.origin.hits[HOST, "/a"] == before + 1


def test_a_page_that_is_not_there_fails_with_econtent(site: Site) -> None:
    site.origin.set(HOST, "/missing", b"", status=404)
    urls = [f"{BASE}/a", f"{BASE}/missing"]
    status = site.upstream.wait_for(site.upstream.create("preposition", content_urls=urls), timeout_s=40)
    [error] = status["errors"]
    assert (status["status"], error["error"], error["content.urls"]) == ("failed", "econtent", urls[1:])


def test_nothing_is_complete_before_the_cache_has_acked(site: Site) -> None:
    fill(site)
    site.cache.pause()
    try:
        path = site.upstream.create("purge", content_urls=[f"{BASE}/a"])
        site.upstream.wait_for(path, "active")
        assert path in site.upstream.listed("active")
        assert path not in site.upstream.listed("complete")
    finally:
        site.cache.resume()
    assert site.upstream.wait_for(path, timeout_s=40)["status"] == "complete"
    assert fresh(site) == {"/a"}


def cdni(site: Site, *words: str, token: str = "ucdn", code: int = 0) -> str:
    """Run ``purgeline cdni``; return what it prints."""
    env = {
        **os.environ,
        "PURGELINE_CDNI_URL": f"http://127.0.0.1:{site.engine.door_port}/triggers",
        "PURGELINE_CDN_ID": "AS64496:1",
        "PURGELINE_TOKEN": token,
    }
    command = [sys.executable, "-m", "engine", "cdni", *words]
    done = subprocess.run(command, capture_output=True, env=env, text=True, check=False)
    assert done.returncode == code, done
    return done.stdout if code != 2 else done.stderr


def test_another_purgeline_asks_by_the_command_line(site: Site) -> None:
    """Upstream the command, downstream the door: created, followed, listed, cancelled, deleted."""
    fill(site)
    made = json.loads(cdni(site, "purge", f"{BASE}/a", "--ccid", "collection-1", "--wait", "--json"))
    assert made["status"] == "complete"
    assert fresh(site) == {"/a", "/tagged"}
    assert made["url"] in cdni(site, "list", "--collection", "complete").split()
    assert "status complete" in cdni(site, "status", made["url"]).replace("\t", " ")
    assert "emeta" in cdni(site, "preposition", "https://nobody.example.net/a", code=1)
    cdni(site, "cancel", made["url"])
    cdni(site, "delete", made["url"])
    assert "no trigger" in cdni(site, "status", made["url"], code=2)
    assert "401" in cdni(site, "list", token="wrong", code=2)
    assert "not below" in cdni(site, "status", "http://elsewhere.example/triggers/1", code=2)
    cdni(site, "purge", f"{BASE}/a", "--via", "AS64496:1", code=2)  # this CDN itself
    assert "loop" in cdni(site, "purge", f"{BASE}/a", "--via", "AS64496:0", code=2)  # that one
