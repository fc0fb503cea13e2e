"""What a purge of one URL drops of a response that varies, and what a wildcard of nginx does, on real caches.

The table in docs/configuration.md says what is asserted here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from release.lab import caches
from release.lab.caches.servers import NGINX_MODULE, NGINX_MODULE_DIRS
from tests.rigs.engine_process import EngineProcess, get_page, node_table
from tests.waiting import wait_until

if TYPE_CHECKING:
    from release.lab.caches import Cache
    from release.lab.origin import Origin

HOST = "img.example.com"
URL = f"http://{HOST}/a"
LANGUAGES = ("de", "fr", "en")


def variants(cache: Cache, *languages: str, path: str = "/a") -> list[str]:
    """Return the version that a visitor of each language is served."""
    pages = (get_page(cache, path, headers={"Accept-Language": language}) for language in languages)
    return [body[:2].decode() for _, body in pages]


def fill(origin: Origin, cache: Cache, *languages: str, path: str = "/a") -> None:
    """Have the old page cached in these languages; from then on the origin has the new one."""
    origin.headers = {"Vary": "Accept-Language"}
    origin.version = "v1"

    def is_cached() -> bool:
        before = origin.hits[HOST, path]
        variants(cache, *languages, path=path)
        return origin.hits[HOST, path] == before

    wait_until(is_cached, what="every variant being cached")
    origin.version = "v2"


@pytest.mark.parametrize("driver", ["varnish", "ats"])
def test_varnish_and_ats_drop_all_variants(driver: str, origin: Origin, tmp_path: Path) -> None:
    with (
        caches.start_cache(driver, tmp_path, name="edge-1", backend=origin.address) as cache,
        EngineProcess(tmp_path, node_table(cache, name="edge-1")) as engine,
    ):
        fill(origin, cache, *LANGUAGES)
        assert variants(cache, *LANGUAGES) == ["v1"] * 3
        task = engine.wait_for(engine.submit([URL]))
        assert (task["state"], task["notes"]) == ("done", [])
        assert variants(cache, *LANGUAGES) == ["v2"] * 3


@pytest.mark.parametrize(
    ("headers", "expected"), [({}, ["v1", "v1", "v1"]), ({"Accept-Language": "fr"}, ["v1", "v2", "v1"])]
)
def test_nginx_drops_the_variant_of_the_nodes_own_headers(
    headers: dict[str, str], expected: list[str], origin: Origin, tmp_path: Path
) -> None:
    """The others stay; the task is done, and its notes say so."""
    with (
        caches.start_nginx(tmp_path, name="edge-1", backend=origin.address) as cache,
        EngineProcess(tmp_path, nodes(cache, headers)) as engine,
    ):
        fill(origin, cache, *LANGUAGES)
        assert variants(cache, *LANGUAGES) == ["v1"] * 3
        task = engine.wait_for(engine.submit([URL]))
        assert task["state"] == "done"
        assert [note["nodes"] for note in task["notes"] if "Vary" in note["note"]] == [["edge-1"]]
        assert variants(cache, *LANGUAGES) == expected


@pytest.mark.parametrize(("headers", "expected"), [({}, ["v1"]), ({"Accept-Language": "fr"}, ["v2"])])
def test_squid_drops_the_variant_of_the_nodes_own_headers(
    headers: dict[str, str], expected: list[str], origin: Origin, tmp_path: Path
) -> None:
    """It keeps one variant of a URL; without its headers the purge finds nothing, and the old page stays."""
    with (
        caches.start_squid(tmp_path, name="edge-1", backend=origin.address) as cache,
        EngineProcess(tmp_path, nodes(cache, headers)) as engine,
    ):
        fill(origin, cache, "fr")
        assert variants(cache, "fr") == ["v1"]
        task = engine.wait_for(engine.submit([URL]))
        assert task["state"] == "done"
        assert [note["nodes"] for note in task["notes"] if "Vary" in note["note"]] == [["edge-1"]]
        assert variants(cache, "fr") == expected


def nodes(cache: Cache, headers: dict[str, str]) -> str:
    """Return the table of a node whose requests carry these headers."""
    lines = "".join(f'"{name}" = "{value}"\n' for name, value in headers.items())
    return f"{node_table(cache, name='edge-1')}[node.headers]\n{lines}"


@pytest.mark.parametrize(("kind", "target"), [("prefix", f"http://{HOST}/n/"), ("host", HOST)])
def test_a_wildcard_drops_what_is_below_it_where_the_module_of_nginx_knows_wildcards(
    kind: str, target: str, origin: Origin, tmp_path: Path
) -> None:
    """The fork does, and takes variants along; module 2.3 answers 404, as for what is not cached."""
    module = next(path for path in map(module_in, NGINX_MODULE_DIRS) if path.is_file())
    dropped = "v2" if b"purge_all" in module.read_bytes() else "v1"
    pages = [(HOST, "/n/a"), (HOST, "/n/b?x=1"), (HOST, "/m"), ("www.example.com", "/n/a")]
    with (
        caches.start_nginx(tmp_path, name="edge-1", backend=origin.address) as cache,
        EngineProcess(tmp_path, node_table(cache, name="edge-1", wildcard=True)) as engine,
    ):
        fill(origin, cache, *LANGUAGES, path="/n/v")
        origin.headers, origin.version = {}, "v1"
        for host, path in pages:
            get_page(cache, path, host=host)
        origin.version = "v2"
        task = engine.wait_for(engine.submit([target], kind=kind, soft=True))
        assert (task["state"], task["skipped"]) == ("done", [])
        served = [get_page(cache, path, host=host)[1][:2].decode() for host, path in pages]
        assert served == [dropped, dropped, dropped if kind == "host" else "v1", "v1"]
        assert variants(cache, *LANGUAGES, path="/n/v") == [dropped] * 3


def module_in(folder: str) -> Path:
    """Return where the cache_purge module would be in a folder of modules."""
    return Path(folder) / NGINX_MODULE
