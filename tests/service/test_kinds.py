"""Prefix, regex, host, surrogate key and soft purges, on real caches."""

import json
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

import pytest

from engine.nodes.drivers.patterns import NESTED_MAX
from release.lab import caches
from release.lab.caches import Cache
from release.lab.origin import Origin
from tests.fakes.node import FakeNode, always, answer
from tests.rigs.engine_process import EngineProcess, fake_table, get_body, get_page, layer_tables, node_table
from tests.waiting import wait_until

HOST = "img.example.com"
OTHER = "www.example.com"


def versions(cache: Cache, paths: list[str], host: str = HOST) -> dict[str, str]:
    """Return the first word of each page."""
    return {path: get_body(cache, path, host=host).split()[0].decode() for path in paths}


class Banning(NamedTuple):
    """A Varnish between an origin and an engine."""

    origin: Origin
    cache: Cache
    engine: EngineProcess


@pytest.fixture(scope="module")
def banning(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Banning]:
    folder = tmp_path_factory.mktemp("banning")
    with (
        Origin() as origin,
        caches.start_varnish(folder, name="edge-1", backend=origin.address) as cache,
        EngineProcess(folder, node_table(cache, name="edge-1")) as engine,
    ):
        yield Banning(origin, cache, engine)


@pytest.mark.parametrize(
    ("kind", "target", "purged"),
    [
        ("prefix", f"http://{HOST}/news/", ["/news/", "/news/a?x=1", "/news/b%20c"]),
        ("prefix", f"http://{HOST}/news/*", ["/news/", "/news/a?x=1", "/news/b%20c"]),
        ("prefix", f"http://{HOST}/news/b%20", ["/news/b%20c"]),
        ("prefix", f"http://{HOST}/n.ws", []),
        ("prefix", f"http://{HOST}/search?q=(a", ["/search?q=(a+b)"]),
        ("regex", f"http://{HOST}/news/[ab]", ["/news/a?x=1", "/news/b%20c"]),
        ("regex", f"http://{HOST}/.*\\?x=[0-9]$", ["/news/a?x=1"]),
        ("regex", f"http://{HOST}/.*%20", ["/news/b%20c"]),
        ("regex", f"http://{HOST}/.*\\.jpg$", ["/pic.jpg"]),
        ("regex", f"http://{HOST}/news/$|ic|search", ["/news/", "/search?q=(a+b)"]),
        ("regex", f"http://{HOST}/zzz|letter", []),
        ("regex", f"http://{HOST}/(?i)PIC|zzz", ["/pic.jpg"]),
        ("regex", f"http://{HOST}/(?x)pic|zzz#comment", ["/pic.jpg"]),
        ("regex", f"http://{HOST}/zzz|news/b\\Q%20", ["/news/b%20c"]),
        ("regex", f"http://{HOST}/ne\\Kws/$|(?<n>zzz)\\Q.\\E", ["/news/"]),
        (
            "host",
            HOST,
            ["/news/", "/news/a?x=1", "/news/b%20c", "/pic.jpg", "/search?q=(a+b)", "/newsletter"],
        ),
        (
            "host",
            f"http://{HOST.upper()}/",
            ["/news/", "/news/a?x=1", "/news/b%20c", "/pic.jpg", "/search?q=(a+b)", "/newsletter"],
        ),
    ],
)
def test_varnish_bans_what_fits_and_nothing_else(
    kind: str, target: str, purged: list[str], banning: Banning
) -> None:
    """Prefix and host are taken literally, a regex as one; other hosts stay."""
    origin, cache, engine = banning
    paths = ["/news/", "/news/a?x=1", "/news/b%20c", "/pic.jpg", "/search?q=(a+b)", "/newsletter"]
    origin.version = "v1"
    engine.wait_for(engine.submit([HOST, OTHER], kind="host"))
    assert versions(cache, paths) == versions(cache, paths, OTHER) == dict.fromkeys(paths, "v1")
    origin.version = "v2"
    task = engine.wait_for(engine.submit([target], kind=kind))
    assert (task["state"], task["kind"], task["errors"]) == ("done", kind, [])
    assert versions(cache, paths) == {path: "v2" if path in purged else "v1" for path in paths}
    assert versions(cache, paths, OTHER) == dict.fromkeys(paths, "v1")


def test_a_host_pattern_takes_the_hosts_below_a_name(banning: Banning) -> None:
    """Of a regex, those pages alone that match."""
    origin, cache, engine = banning
    paths = ["/news/", "/pic.jpg"]
    hosts = ["a.many.org", "b.c.many.org", "many.org"]
    origin.version = "v1"
    engine.wait_for(engine.submit(hosts, kind="host"))
    for host in hosts:
        assert versions(cache, paths, host) == dict.fromkeys(paths, "v1")
    origin.version = "v2"
    assert engine.wait_for(engine.submit(["http://*.many.org/pic"], kind="regex"))["state"] == "done"
    for host, now in zip(hosts, ("v2", "v2", "v1"), strict=True):
        assert versions(cache, paths, host) == {"/news/": "v1", "/pic.jpg": now}
    origin.version = "v3"
    assert engine.wait_for(engine.submit(["*.many.org"], kind="host"))["state"] == "done"
    for host, now in zip(hosts, ("v3", "v3", "v1"), strict=True):
        assert versions(cache, paths, host) == dict.fromkeys(paths, now)


@pytest.mark.parametrize(("kind", "sign"), [("prefix", "-"), ("prefix", "a"), ("regex", "a"), ("url", "-")])
def test_varnish_takes_the_longest_target_that_the_engine_does(
    kind: str, sign: str, banning: Banning
) -> None:
    """Varnish ends the connection at a longer one, and what came after it would be held."""

    def submit(length: int) -> tuple[int, bytes]:
        body = {"kind": kind, "targets": [f"http://{HOST}/{sign * length}"]}
        status, _, answer = banning.engine.request("POST", "/v1/engine/task", body)
        return status, answer

    status, answer = submit(7999)
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        status, answer = submit(4000)
    assert status == HTTPStatus.ACCEPTED
    assert banning.engine.wait_for(json.loads(answer)["task_id"])["state"] == "done"


def test_varnish_lives_on_with_as_many_groups_as_a_pattern_may_have(banning: Banning) -> None:
    """It dies of some 80 within each other, and loses all it has."""
    origin, cache, engine = banning
    origin.version = "v1"
    engine.wait_for(engine.submit([HOST], kind="host"))
    assert versions(cache, ["/pic.jpg"]) == {"/pic.jpg": "v1"}
    origin.version = "v2"
    target = f"http://{HOST}/{'(a' * NESTED_MAX}{')' * NESTED_MAX}"
    assert engine.wait_for(engine.submit([target], kind="regex"))["state"] == "done"
    assert versions(cache, ["/pic.jpg"]) == {"/pic.jpg": "v1"}


BAD_PATTERNS = {"(a": "missing closing parenthesis", "zzz)|(ews": "unmatched closing parenthesis"}


@pytest.mark.parametrize(("pattern", "reason"), BAD_PATTERNS.items())
def test_a_pattern_that_no_cache_can_read_is_refused_before_it_is_stored(
    pattern: str, reason: str, banning: Banning
) -> None:
    body = {"id": "bad", "kind": "regex", "targets": [f"http://{HOST}/ok", f"http://{HOST}/{pattern}"]}
    status, _, text = banning.engine.request("POST", "/v1/engine/task", body)
    assert status == 422
    assert json.loads(text)["field"] == "targets[1]"
    assert reason in json.loads(text)["detail"]
    assert banning.engine.request("GET", "/v1/engine/task/bad")[0] == 404


def test_without_pcre2_the_cache_decides_and_no_pattern_gets_out_of_its_group(
    origin: Origin, tmp_path: Path
) -> None:
    """The cache's 400 is a failure and not tried again, and nothing of another path is purged."""
    (tmp_path / "libpcre2-8.so.0").touch()  # is found before the real one, and is no library
    with (
        caches.start_varnish(tmp_path / "v", name="edge-1", backend=origin.address) as cache,
        EngineProcess(
            tmp_path, node_table(cache, name="edge-1"), env={"LD_LIBRARY_PATH": str(tmp_path)}
        ) as engine,
    ):
        before = versions(cache, ["/news/", "/xews"])
        origin.version = "v2"
        for pattern in BAD_PATTERNS:
            task = engine.wait_for(engine.submit([f"http://{HOST}/{pattern}"], kind="regex"))
            assert (task["state"], task["failed"]) == ("failed", 1)
            assert "400" in task["errors"][0]["reason"]
        assert versions(cache, ["/news/", "/xews"]) == before


@pytest.mark.parametrize("key_mode", ["xkey", "ban"])
def test_a_surrogate_key_takes_all_pages_that_carry_it(key_mode: str, origin: Origin, tmp_path: Path) -> None:
    """Whole keys only, of one host only; as host/key or as an object."""
    tags = {"/1": "front article-1", "/2": "front article-12", "/3": "article-12, a.b+c"}
    for host in (HOST, OTHER):
        for path, keys in tags.items():
            origin.set(host, path, b"v1", headers={"Surrogate-Key": keys})
    with (
        caches.start_varnish(
            tmp_path, name="edge-1", backend=origin.address, xkey=key_mode == "xkey"
        ) as cache,
        EngineProcess(tmp_path, node_table(cache, name="edge-1", key_mode=key_mode)) as engine,
    ):

        def purge(target: object) -> dict[str, str]:
            for host in (HOST, OTHER):
                for path, keys in tags.items():
                    origin.set(host, path, b"v1", headers={"Surrogate-Key": keys})
            engine.wait_for(engine.submit([HOST, OTHER], kind="host"))
            for host in (HOST, OTHER):
                assert set(versions(cache, list(tags), host).values()) == {"v1"}
                for path, keys in tags.items():
                    origin.set(host, path, b"v2", headers={"Surrogate-Key": keys})
            assert engine.wait_for(engine.submit([target], kind="key"))["state"] == "done"
            assert set(versions(cache, list(tags), OTHER).values()) == {"v1"}
            return versions(cache, list(tags))

        assert purge(f"{HOST}/front") == {"/1": "v2", "/2": "v2", "/3": "v1"}
        assert purge({"host": HOST, "key": "article-1"}) == {"/1": "v2", "/2": "v1", "/3": "v1"}
        assert purge({"host": HOST.upper(), "key": "article-12"}) == {"/1": "v1", "/2": "v2", "/3": "v2"}
        assert purge(f"{HOST}/a.b+c") == {"/1": "v1", "/2": "v1", "/3": "v2"}
        assert purge(f"{HOST}/a-b+c") == {"/1": "v1", "/2": "v1", "/3": "v1"}


def test_a_soft_purge_serves_the_old_page_while_it_fetches(origin: Origin, tmp_path: Path) -> None:
    """Stale, not gone: the first visitor gets the old page at once, a later one the new."""
    with (
        caches.start_varnish(tmp_path, name="edge-1", backend=origin.address) as cache,
        EngineProcess(tmp_path, node_table(cache, name="edge-1")) as engine,
    ):
        get_body(cache, "/a")
        origin.version = "v2"
        assert engine.wait_for(engine.submit([f"http://{HOST}/a"], soft=True))["state"] == "done"
        assert get_body(cache, "/a").startswith(b"v1 ")
        wait_until(lambda: get_body(cache, "/a").startswith(b"v2 "), what="the new page")
        assert origin.hits[HOST, "/a"] == 2


def test_a_soft_key_purge_is_soft_with_xkey(origin: Origin, tmp_path: Path) -> None:
    """Xkey can be soft; the old page is served once more."""
    origin.set(HOST, "/a", b"v1", headers={"Surrogate-Key": "all"})
    with (
        caches.start_varnish(tmp_path, name="edge-1", backend=origin.address) as cache,
        EngineProcess(tmp_path, node_table(cache, name="edge-1")) as engine,
    ):
        get_body(cache, "/a")
        origin.set(HOST, "/a", b"v2", headers={"Surrogate-Key": "all"})
        assert engine.wait_for(engine.submit([f"{HOST}/all"], kind="key", soft=True))["state"] == "done"
        assert get_body(cache, "/a") == b"v1"
        wait_until(lambda: get_body(cache, "/a") == b"v2", what="the new page")


def test_a_soft_purge_is_hard_at_the_parent(origin: Origin, tmp_path: Path) -> None:
    """A parent that served its stale page would poison the edge for good."""
    with (
        caches.start_varnish(tmp_path, name="parent-1", backend=origin.address, is_parent=True) as parent,
        caches.start_varnish(tmp_path, name="edge-1", backend=parent.address) as edge,
        EngineProcess(
            tmp_path,
            layer_tables("parent", "edge")
            + node_table(parent, name="parent-1", layer="parent")
            + node_table(edge, name="edge-1"),
        ) as engine,
    ):
        get_body(edge, "/a")
        origin.version = "v2"
        task = engine.wait_for(engine.submit([f"http://{HOST}/a"], soft=True))
        assert (task["state"], task["counter"]) == ("done", 2)
        assert get_body(edge, "/a").startswith(b"v1 ")
        wait_until(lambda: get_body(edge, "/a").startswith(b"v2 "), what="the new page")
        assert get_body(parent, "/a").startswith(b"v2 ")


def test_soft_goes_as_a_header_to_edges_only(tmp_path: Path) -> None:
    """Where a cache cannot be soft, a soft purge is a hard one, and the task says so."""
    with (
        FakeNode() as parent,
        FakeNode() as edge,
        FakeNode() as plain,
        EngineProcess(
            tmp_path,
            layer_tables("parent", "edge")
            + fake_table(parent.url, name="parent-1", layer="parent")
            + fake_table(edge.url, name="edge-1")
            + fake_table(plain.url, name="edge-2", driver="squid"),
        ) as engine,
    ):
        task = engine.wait_for(engine.submit([f"http://{HOST}/a"], soft=True))
        assert task["state"] == "done"
        hard = [note["nodes"] for note in task["notes"] if note["note"].startswith("purged hard: ")]
        assert hard == [["parent-1"], ["edge-2"]]
        sent = [node.requests[0].headers.get("purgeline-soft") for node in (parent, edge, plain)]
        assert sent == [None, "1", None]


def test_varnish_drops_all_variants_of_a_url(origin: Origin, tmp_path: Path) -> None:
    """Vary: one purge, every variant."""
    with (
        caches.start_varnish(tmp_path, name="edge-1", backend=origin.address) as cache,
        EngineProcess(tmp_path, node_table(cache, name="edge-1")) as engine,
    ):
        origin.headers = {"Vary": "Accept-Language"}
        languages = ["de", "fr", "en"]

        def pages() -> list[bytes]:
            return [get_page(cache, "/a", headers={"Accept-Language": name})[1][:2] for name in languages]

        assert pages() == [b"v1"] * 3
        origin.version = "v2"
        assert pages() == [b"v1"] * 3
        assert engine.wait_for(engine.submit([f"http://{HOST}/a"]))["state"] == "done"
        assert pages() == [b"v2"] * 3


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("prefix", f"http://{HOST}/a/"),
        ("regex", f"http://{HOST}/a.*"),
        ("host", HOST),
        ("key", f"{HOST}/k"),
    ],
)
def test_what_a_targeted_node_cannot_do_is_refused_before_it_is_stored(
    kind: str, target: str, tmp_path: Path
) -> None:
    """422 names the nodes that cannot; nothing is sent, nothing kept; without them it is taken."""
    with FakeNode() as node:
        tables = fake_table(node.url, name="v-1") + "".join(
            fake_table(node.url, name=f"{driver}-1", driver=driver) for driver in ("ats", "nginx", "squid")
        )
        with EngineProcess(tmp_path, tables) as engine:
            body = {"id": "mine", "kind": kind, "targets": [target]}
            status, headers, text = engine.request("POST", "/v1/engine/task", body)
            assert status == 422
            assert headers["content-type"] == "application/problem+json"
            detail = json.loads(text)["detail"]
            assert "kind" in detail
            assert all(f"{driver}-1 ({driver})" in detail for driver in ("ats", "nginx", "squid"))
            assert "v-1" not in detail
            assert engine.request("GET", "/v1/engine/task/mine")[0] == 404
            assert engine.get("/v1/engine/tasks")["tasks"] == []
            assert not node.requests
            task = engine.wait_for(engine.submit([target], id="mine", kind=kind, nodes=["v-1"]))
            assert (task["state"], task["total"]) == ("done", 1)


def test_nodes_that_cannot_do_it_are_skipped_and_named(tmp_path: Path) -> None:
    """What can be purged is; the task names the rest, from memory, after a restart and from the store."""
    target = f"http://{HOST}/a/"
    with FakeNode() as parent, FakeNode() as edge, FakeNode() as plain:
        tables = (
            layer_tables("parent", "edge")
            + fake_table(parent.url, name="ats-1", layer="parent", driver="ats")
            + fake_table(edge.url, name="v-1")
            + fake_table(plain.url, name="squid-1", driver="squid")
        )
        reason = "as configured, cannot purge by prefix"
        skipped = [
            {"name": "ats-1", "reason": f"ats, {reason}"},
            {"name": "squid-1", "reason": f"squid, {reason}"},
        ]
        with EngineProcess(tmp_path, tables) as engine:
            engine.wait_for(engine.submit([target], id="a", kind="prefix", on_incapable="skip"))
            task = engine.task("a")
            assert (task["state"], task["total"], task["skipped"]) == ("done", 1, skipped)
            assert [layer["name"] for layer in task["layers"]] == ["edge"]
            body = {"id": "a", "targets": [target], "kind": "prefix", "on_incapable": "skip"}
            assert engine.request("POST", "/v1/engine/task", body)[0] == 200
            assert engine.request("POST", "/v1/engine/task", {**body, "on_incapable": "refuse"})[0] == 422
            edge.stop()
            engine.submit([target], id="b", kind="prefix", on_incapable="skip", due_s=0.2)
            assert engine.wait_for("b", "partial")["skipped"] == skipped
        edge.start()
        with EngineProcess(tmp_path, tables, on_incapable="skip") as engine:
            assert engine.wait_for("b")["state"] == "done"
            for name in ("a", "b"):
                assert engine.task(name)["skipped"] == skipped
            listed = engine.get("/v1/engine/tasks")["tasks"]
            assert [task["skipped"] for task in listed] == [skipped, skipped]
            engine.wait_for(engine.submit([target], id="c", kind="prefix"))
            assert engine.task("c")["skipped"] == skipped
            for fields in ({"on_incapable": "refuse"}, {"nodes": ["ats-1", "squid-1"]}):
                body = {"targets": [target], "kind": "prefix", **fields}
                assert engine.request("POST", "/v1/engine/task", body)[0] == 422
        assert len(edge.requests) >= 3
        assert not [sent for node in (parent, plain) for sent in node.requests if sent.method == "BAN"]


def test_keys_need_a_key_mode(tmp_path: Path) -> None:
    """A Varnish without xkey and ban keys says so at the client's request, not at the cache."""
    with (
        FakeNode() as node,
        EngineProcess(tmp_path, fake_table(node.url, name="v-1", key_mode="none")) as engine,
    ):
        status, _, text = engine.request("POST", "/v1/engine/task", {"kind": "key", "targets": [f"{HOST}/k"]})
        assert status == 422
        assert "v-1 (varnish)" in json.loads(text)["detail"]


@pytest.mark.parametrize(
    ("kind", "target", "path"),
    [("prefix", f"http://{HOST}/news/", "/purge/news/*"), ("host", HOST, "/purge/*")],
)
@pytest.mark.parametrize("soft", [False, True])
def test_nginx_takes_prefixes_and_hosts_where_the_configuration_says_so(
    kind: str, target: str, path: str, soft: bool, tmp_path: Path
) -> None:
    """A wildcard at the end of the purge location; a host is everything below its root."""
    with (
        FakeNode() as node,
        EngineProcess(
            tmp_path, fake_table(node.url, name="n-1", driver="nginx", purge_path="/purge", wildcard=True)
        ) as engine,
    ):
        task = engine.wait_for(engine.submit([target], kind=kind, soft=soft))
        assert task["state"] == "done"
        assert [(sent.method, sent.path, sent.host) for sent in node.requests] == [("PURGE", path, HOST)]
        assert [note["nodes"] for note in task["notes"]] == ([["n-1"]] if soft else [])
        if kind == "prefix" and not soft:
            queued_is_no_ack(engine, node, target)


def queued_is_no_ack(engine: EngineProcess, node: FakeNode, target: str) -> None:
    """The current module may only note a wildcard; answers as nginx 1.22 with it gave them."""
    page = b"<html><head><title>Cache Purge</title></head><p>Key: k</p><p>Status: queued</p></html>"
    node.script = always(answer(202, page, "Content-Type: text/html"))
    task = engine.wait_for(engine.submit([target], kind="prefix"), "partial")
    assert "cache_purge_background_queue off" in task["errors"][0]["reason"]
    node.script = always(answer(200, page.replace(b"queued", b"purged"), "Content-Type: text/html"))
    assert engine.wait_for(task["task_id"])["state"] == "done"
