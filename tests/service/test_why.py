"""Why visitors get what they get: each conclusion made by a real cache."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from release.lab import caches
from release.lab.caches import free_port
from release.lab.origin import Origin
from tests.fakes.node import Act, FakeNode, always, answer
from tests.rigs.engine_process import EngineProcess, fake_table, get_body, get_page, layer_tables, node_table
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from release.lab.caches import Cache

HOST = "img.example.com"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


def url(path: str) -> str:
    return f"http://{HOST}{path}"


def origin_table(origin: Origin) -> str:
    return f'[[origin]]\nhost = "*.example.com"\nurl = "{origin.url}"\n'


def why(engine: EngineProcess, path: str) -> dict[str, Any]:
    """Ask why, and hold the sentences to what each has: its node, a time, and what to do next."""
    found: dict[str, Any] = engine.get(f"/v1/engine/why?{urlencode({'url': url(path)})}")
    for node in found["nodes"]:
        assert node["name"] in node["sentence"]
        assert re.search(TIME, node["sentence"]), node
        assert "`purgeline " in node["sentence"] or "nothing is to be done" in node["sentence"], node
    assert re.search(TIME, found["sentence"])
    return found


def conclusions(found: dict[str, Any]) -> list[str]:
    """Return the conclusion of the whole, and of each node."""
    return [found["conclusion"], *(node["conclusion"] for node in found["nodes"])]


def publish(origin: Origin, path: str, text: str, **headers: str) -> None:
    fields = {"Cache-Control": "max-age=600", "ETag": f'"{text}"', **headers}
    origin.set(HOST, path, text.encode(), headers=fields)


class Fleet:
    """A real parent and its edge, and an engine."""

    def __init__(self, origin: Origin, edge: Cache, engine: EngineProcess) -> None:
        self.origin = origin
        self.edge = edge
        self.engine = engine

    def stale(self, path: str) -> None:
        """Have both caches keep the old page of *path*, and the origin a new one."""
        publish(self.origin, path, "old")
        get_body(self.edge, path)
        publish(self.origin, path, "new")

    def purge(self, path: str, **fields: Any) -> str:
        return self.engine.submit([url(path)], **fields)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("why")
    with (
        Origin() as origin,
        caches.start_varnish(folder, name="parent-1", backend=origin.address, is_parent=True) as parent,
        caches.start_varnish(folder, name="edge-1", backend=parent.address) as edge,
    ):
        tables = (
            '[[site]]\nhost = "*.example.com"\n'
            + origin_table(origin)
            + layer_tables("parent", "edge")
            + node_table(parent, name="parent-1", layer="parent")
            + node_table(edge, name="edge-1")
        )
        with EngineProcess(folder, tables) as engine:
            yield Fleet(origin, edge, engine)


def test_what_nobody_has_purged_is_stale_everywhere_and_the_purge_is_the_next_command(fleet: Fleet) -> None:
    fleet.stale("/never")
    found = why(fleet.engine, "/never")
    assert conclusions(found) == ["never_purged"] * 3
    assert "still serves ETag" in found["sentence"]
    assert f"`purgeline purge {url('/never')}`" in found["sentence"]
    assert found["origin"]["answers"][0]["etag"] == '"new"'
    assert [node["answers"][0]["etag"] for node in found["nodes"]] == ['"old"'] * 2
    assert found["nodes"][1]["answers"][0]["hit"] is True
    assert found["purges"] == []
    assert "incomplete" not in found
    assert found["can_fill"] == ["parent-1", "edge-1"]


def test_after_a_purge_all_is_fresh_and_the_look_that_fills_a_cache_says_so(fleet: Fleet) -> None:
    fleet.stale("/fresh")
    task_id = fleet.purge("/fresh")
    fleet.engine.wait_for(task_id, "done")
    found = why(fleet.engine, "/fresh")
    assert [node["filled"] for node in found["nodes"]] == [True, True]
    assert found["conclusion"] == "not_cached"
    assert "this look has filled it" in found["sentence"]
    found = why(fleet.engine, "/fresh")
    assert conclusions(found) == ["fresh"] * 3
    assert [(purge["task_id"], purge["match"], purge["is_sure"]) for purge in found["purges"]] == [
        (task_id, url("/fresh"), True)
    ]
    assert {node["outcome"] for node in found["purges"][0]["nodes"]} <= {"acked", "absent"}


def test_an_edge_that_was_refilled_from_a_stale_parent_names_it(fleet: Fleet) -> None:
    fleet.stale("/refilled")
    fleet.engine.wait_for(fleet.purge("/refilled", nodes=["edge-1"]), "done")
    found = why(fleet.engine, "/refilled")
    assert conclusions(found) == ["refilled_from_stale_parent", "never_purged", "refilled_from_stale_parent"]
    assert re.search(
        f"edge-1 still serves .* purged at {TIME}: it fetched the page from parent-1, .*, because purge",
        found["sentence"],
    )
    assert f"`purgeline purge {url('/refilled')}`" in found["sentence"]


def test_a_purge_that_waits_for_a_node_is_delayed_and_its_edge_suffers_from_it(fleet: Fleet) -> None:
    fleet.stale("/delayed")
    assert fleet.engine.request("POST", "/v1/engine/nodes/parent-1/pause")[0] == 200
    try:
        task_id = fleet.purge("/delayed")
        fleet.engine.wait_for(task_id, "partial")
        found = why(fleet.engine, "/delayed")
    finally:
        fleet.engine.request("POST", "/v1/engine/nodes/parent-1/resume")
    assert conclusions(found) == ["refilled_from_stale_parent", "delayed", "refilled_from_stale_parent"]
    assert f"purge {task_id} of " in found["sentence"]
    assert "waits for parent-1 (paused by" in found["sentence"]
    fleet.engine.wait_for(task_id, "done")
    assert why(fleet.engine, "/delayed")["conclusion"] in {"fresh", "not_cached"}


def test_a_purge_that_waits_for_an_edge_alone_is_delayed_and_resuming_it_is_the_next_command(
    fleet: Fleet,
) -> None:
    fleet.stale("/paused")
    fleet.engine.wait_for(fleet.purge("/paused", nodes=["parent-1"]), "done")
    assert fleet.engine.request("POST", "/v1/engine/nodes/edge-1/pause")[0] == 200
    try:
        task_id = fleet.purge("/paused", nodes=["edge-1"])
        fleet.engine.wait_for(task_id, "partial")
        found = why(fleet.engine, "/paused")
    finally:
        fleet.engine.request("POST", "/v1/engine/nodes/edge-1/resume")
    assert conclusions(found) == ["delayed", "not_cached", "delayed"]
    assert re.search(
        rf'edge-1 still serves ETag "old", the origin has "new" \(seen at {TIME}\): purge {task_id} of '
        rf"{TIME} waits for edge-1 \(paused by .*\); to have it delivered: `purgeline resume edge-1`",
        found["sentence"],
    )
    fleet.engine.wait_for(task_id, "done")
    assert why(fleet.engine, "/paused")["conclusion"] in {"fresh", "not_cached"}


@pytest.mark.slow
def test_a_purge_that_waits_for_a_closed_port_is_delayed_while_visitors_are_served(
    fleet: Fleet, tmp_path: Path
) -> None:
    fleet.stale("/closed")
    tables = node_table(fleet.edge, name="edge-1", url=f"http://127.0.0.1:{free_port()}")
    tables += f'visit_url = "{fleet.edge.url}"\n' + origin_table(fleet.origin)
    with EngineProcess(tmp_path, tables) as engine:
        task_id = engine.submit([url("/closed")])
        engine.wait_for(task_id, "partial")
        found = why(engine, "/closed")
    assert conclusions(found) == ["delayed"] * 2
    assert f"purge {task_id} of " in found["sentence"]
    assert re.search(
        r"waits for edge-1 \(.*refused.*\), and is delivered when that is over", found["sentence"]
    )
    assert f"next: `purgeline watch {task_id}`" in found["sentence"]


def test_a_purge_that_begins_later_is_pending(fleet: Fleet) -> None:
    fleet.stale("/pending")
    task_id = fleet.purge("/pending", start_at=time.time() + 600)
    found = why(fleet.engine, "/pending")
    assert conclusions(found) == ["pending"] * 3
    assert f"`purgeline watch {task_id}`" in found["sentence"]
    assert re.search(f"begins at {TIME}", found["sentence"])


def test_what_covers_a_page_is_known_of_large_tasks_and_of_patterns(fleet: Fleet) -> None:
    many = fleet.engine.submit([url(f"/many/{number}") for number in range(150)])
    pattern = fleet.engine.submit([url("/many/1[0-9]+$")], kind="regex")
    for task_id in (many, pattern):
        fleet.engine.wait_for(task_id, "done")
    found = why(fleet.engine, "/many/149")
    assert [(one["task_id"], one["kind"], one["is_sure"]) for one in found["purges"]] == [
        (pattern, "regex", True),
        (many, "url", True),
    ]
    assert found["purges"][1]["match"] == url("/many/149")
    assert {node["outcome"] for one in found["purges"] for node in one["nodes"]} <= {"acked", "absent"}
    assert [one["task_id"] for one in why(fleet.engine, "/many/9")["purges"]] == [many]


def test_where_older_purges_were_not_looked_for_the_sentence_says_so(fleet: Fleet) -> None:
    fleet.stale("/often")
    tasks = [fleet.purge("/often", nodes=["edge-1"]) for _ in range(11)]
    for task_id in tasks:
        fleet.engine.wait_for(task_id, "done")
    found = why(fleet.engine, "/often")
    assert (found["nodes"][0]["conclusion"], len(found["purges"])) == ("never_purged", 10)
    assert found["incomplete"] == "older ones were not looked for"
    assert (
        ", the last of those that could be looked at (older ones were not looked for), went to other nodes"
        in found["sentence"]
    )


@pytest.mark.parametrize(
    ("asked", "status", "field"),
    [
        ({"url": "http://evil.org/a"}, 422, "url"),
        ({"url": "http://img.example.com@evil.org/a"}, 422, "url"),
        ({"url": "file:///etc/passwd"}, 422, "url"),
        ({"url": "http://169.254.169.254/latest/meta-data"}, 422, "url"),
        ({"url": "http://127.0.0.1:9181/v1/engine/tasks"}, 422, "url"),
        ({"url": "http://img.example.com/a b"}, 422, "url"),
        ({"url": "http://img.example.com/a\r\nX: y"}, 422, "url"),
        ({"url": "gopher://img.example.com/"}, 422, "url"),
        ({"url": "img.example.com/a"}, 422, "url"),
        ({"url": "http://img.example.com/a?"}, 422, "url"),
        ({}, 422, "url"),
        ({"url": "http://img.example.com/a", "node": "http://evil.org"}, 422, "node"),
    ],
)
def test_nothing_but_configured_nodes_and_sites_can_be_asked(
    fleet: Fleet, asked: dict[str, str], status: int, field: str
) -> None:
    before = sum(fleet.origin.methods.values())
    got, _, text = fleet.engine.request("GET", f"/v1/engine/why?{urlencode(asked)}")
    assert (got, json.loads(text)["field"]) == (status, field)
    assert sum(fleet.origin.methods.values()) == before


def test_the_command_prints_a_table_the_purges_and_the_sentence(fleet: Fleet) -> None:
    fleet.stale("/printed")
    fleet.engine.wait_for(fleet.purge("/printed", nodes=["edge-1"]), "done")
    command = [sys.executable, "-m", "engine", "why", url("/printed")]
    command += ["--engine", f"http://127.0.0.1:{fleet.engine.port}"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 1, said.stderr
    lines = said.stdout.splitlines()
    assert lines[1].startswith('node origin - 200 - "new"')
    assert re.match(
        'node parent-1 parent 200 [0-9]+ "old" - [0-9a-f]{12} true stale never_purged -', lines[2]
    )
    assert re.match('node edge-1 edge 200 [0-9]+ "old" .* stale refilled_from_stale_parent -', lines[3])
    assert any(line.startswith("purge ") and "edge-1:acked" in line for line in lines)
    assert lines[-2] == "conclusion refilled_from_stale_parent"
    assert "a look is a visit" in said.stderr
    said = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert json.loads(said.stdout)["conclusion"] == "refilled_from_stale_parent"


@contextmanager
def alone(
    cache: Cache, origin: Origin, folder: Path, *, name: str = "edge-1", **engine: Any
) -> Iterator[EngineProcess]:
    """Run an engine with one cache."""
    tables = origin_table(origin) + node_table(cache, name=name)
    with EngineProcess(folder, tables, **engine) as running:
        yield running


def test_an_edge_that_does_not_answer_visitors_is_unreachable(origin: Origin, tmp_path: Path) -> None:
    """And one that answers for ever, or talks nonsense: each look has its time."""
    drip = [Act.HANG]
    with FakeNode(always(*drip)) as slow, FakeNode(always(b"SSH-2.0-x\r\n")) as odd, FakeNode() as gone:
        tables = "".join(
            fake_table(node.url, name=name) for node, name in ((slow, "slow"), (odd, "odd"), (gone, "gone"))
        )
        gone.stop()
        with EngineProcess(tmp_path, tables + origin_table(origin)) as engine:
            began = time.monotonic()
            found = why(engine, "/a")
            assert time.monotonic() - began < 14
    assert conclusions(found) == ["unreachable"] * 4
    assert "no whole answer within 5 s" in found["nodes"][0]["sentence"]
    assert ": an answer that is not HTTP (bad status line); next: " in found["nodes"][1]["sentence"]
    assert re.search(
        r": no connection to 127\.0\.0\.1:\d+ \(Connection refused\); ", found["nodes"][2]["sentence"]
    )
    assert "`purgeline nodes`" in found["sentence"]


def test_a_cache_that_has_been_stopped_is_unreachable(origin: Origin, tmp_path: Path) -> None:
    edge = caches.start_varnish(tmp_path, name="edge-1", backend=origin.address)
    with edge, EngineProcess(tmp_path, origin_table(origin) + node_table(edge, name="edge-1")) as engine:
        edge.stop()
        found = why(engine, "/stopped")
        assert conclusions(found) == ["unreachable"] * 2
        assert "`purgeline nodes`" in found["sentence"]


@pytest.mark.parametrize("history_days", [0, 3])
def test_without_an_origin_nothing_is_called_fresh_that_does_not_show_it(
    tmp_path: Path, history_days: int
) -> None:
    with (
        FakeNode(always(answer(200, b"page"))) as node,
        EngineProcess(tmp_path, fake_table(node.url, name="edge-1"), history_days=history_days) as engine,
    ):
        assert conclusions(why(engine, "/a")) == ["never_purged"] * 2
        engine.wait_for(engine.submit([url("/a")]), "done")
        found = why(engine, "/a")
        assert conclusions(found) == ["unproven"] * 2
        assert "nothing shows whether what edge-1 serves" in found["sentence"]
        assert found["origin"] is None


@pytest.mark.slow
def test_a_cache_that_refuses_purges_is_named(origin: Origin, tmp_path: Path) -> None:
    with (
        caches.start_varnish(tmp_path, name="edge-1", backend=origin.address, purge_allowed=False) as cache,
        alone(cache, origin, tmp_path) as engine,
    ):
        publish(origin, "/a", "old")
        get_body(cache, "/a")
        publish(origin, "/a", "new")
        engine.wait_for(engine.submit([url("/a")]), "partial")
        found = why(engine, "/a")
        assert conclusions(found) == ["refused"] * 2
        assert "check-nodes --config engine.toml --node edge-1" in found["sentence"]


@pytest.mark.slow
def test_a_cache_whose_purges_are_not_its_own_is_unproven(origin: Origin, tmp_path: Path) -> None:
    with (
        caches.start_varnish(tmp_path, name="edge-1", backend=origin.address, node="another") as cache,
        alone(cache, origin, tmp_path) as engine,
    ):
        publish(origin, "/a", "old")
        get_body(cache, "/a")
        task_id = engine.submit([url("/a")])
        wait_until(lambda: engine.task(task_id)["state"] == "partial")
        publish(origin, "/a", "new")
        get_body(cache, "/a")
        publish(origin, "/a", "newer")
        found = why(engine, "/a")
        assert conclusions(found) == ["unproven"] * 2
        assert "edge-1 answers purges, and nothing shows that it does them itself" in found["sentence"]


@pytest.mark.slow
def test_a_variant_that_a_purge_did_not_reach_is_found(origin: Origin, tmp_path: Path) -> None:
    with (
        caches.start_nginx(tmp_path, name="edge-1", backend=origin.address) as cache,
        alone(cache, origin, tmp_path) as engine,
    ):
        publish(origin, "/a", "old", Vary="Accept-Encoding")
        for encoding in ("gzip", ""):
            for _ in range(2):
                get_page_with(cache, "/a", encoding)
        publish(origin, "/a", "new", Vary="Accept-Encoding")
        engine.wait_for(engine.submit([url("/a")]), "done")
        found = why(engine, "/a")
        assert conclusions(found) == ["variant"] * 2, found
        assert re.search(
            r"\(acked at .*\) did not reach that variant on edge-1; have purges ask for it", found["sentence"]
        )


def get_page_with(cache: Cache, path: str, encoding: str) -> None:
    get_page(cache, path, headers={"Accept-Encoding": encoding} if encoding else {"X": "y"})


@pytest.mark.slow
def test_a_varnish_that_purges_another_key_keeps_what_it_acked(origin: Origin, tmp_path: Path) -> None:
    with caches.start_varnish(tmp_path, name="edge-1", backend=origin.address) as cache:
        for path in (tmp_path / "edge-1").glob("**/*.vcl"):
            text = path.read_text()
            path.write_text(text + '\nsub vcl_hash { if (req.method == "PURGE") { hash_data("other"); } }\n')
        cache.stop()
        cache.start()
        with alone(cache, origin, tmp_path) as engine:
            publish(origin, "/a", "old")
            get_body(cache, "/a")
            publish(origin, "/a", "new")
            engine.wait_for(engine.submit([url("/a")]), "done")
            found = why(engine, "/a")
            assert conclusions(found) == ["stale_after_purge"] * 2
            assert "another cache key" in found["sentence"]


@pytest.mark.slow
def test_a_purge_that_waited_too_long_has_failed(origin: Origin, tmp_path: Path) -> None:
    with (
        caches.start_varnish(tmp_path, name="edge-1", backend=origin.address) as cache,
        alone(cache, origin, tmp_path, delay_ttl_s=1) as engine,
    ):
        publish(origin, "/a", "old")
        get_body(cache, "/a")
        publish(origin, "/a", "new")
        assert engine.request("POST", "/v1/engine/nodes/edge-1/pause")[0] == 200
        engine.wait_for(engine.submit([url("/a")]), "failed", timeout_s=90)
        found = why(engine, "/a")
        assert conclusions(found) == ["failed"] * 2
        assert "longer than delay_ttl_s (1)" in found["sentence"]


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["ats", "squid"])
def test_a_cache_that_can_be_asked_for_what_it_has_is_not_filled(
    driver: str, origin: Origin, tmp_path: Path
) -> None:
    with (
        caches.start_cache(driver, tmp_path, name="edge-1", backend=origin.address) as cache,
        alone(cache, origin, tmp_path) as engine,
    ):
        publish(origin, "/a", "new")
        assert conclusions(why(engine, "/a")) == ["not_cached"] * 2
        found = why(engine, "/a")
        assert conclusions(found) == ["not_cached"] * 2
        assert (found["can_fill"], found["nodes"][0]["answers"]) == ([], [])
        assert "`purgeline prefetch --node edge-1" in found["sentence"]
        get_body(cache, "/a")
        assert conclusions(why(engine, "/a")) == ["fresh"] * 2
