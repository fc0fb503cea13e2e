"""What was acked is looked at as visitors see it, and compared with the origin."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import time
from typing import TYPE_CHECKING

import pytest

from tests.fakes.node import Act, FakeNode, Request, answer
from tests.rigs.proof_rig import HOST, URL, Cachelet, proof_of, table_of
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from release.lab.origin import Origin

OLD = "Sat, 28 Nov 2026 10:00:00 GMT"


@pytest.fixture
def edge(origin: Origin) -> Iterator[Cachelet]:
    with Cachelet(origin) as edge:
        yield edge


async def warm(edge: FakeNode, url: str = URL) -> None:
    """Have a cache fetch a page, as a visitor's request does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    _, _, host, path = url.split("/", 3)
    writer.write(f"GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def test_a_purge_is_done_when_a_visitor_gets_what_the_origin_has(
    origin: Origin, edge: Cachelet, tmp_path: Path
) -> None:
    async with proof_of(tmp_path, [table_of("edge-1", edge)], origin=origin) as rig:
        await warm(edge)
        origin.version = "v2"
        task = await rig.purged(verify=True)
        assert task["state"] == "done"
        expected = {"mode": "all", "checked": 1, "verified": 1, "stale": 0, "unverifiable": 0}
        assert task["verify"] == expected | {"rules": {"digest": 1}, "note": "", "reasons": []}
        [node] = task["nodes"]
        assert node["verified_at"] >= node["acked_at"]
        assert node["verified_digest"] == hashlib.sha256(edge.kept[URL][1]).hexdigest()
        assert edge.visits() == ["/page", "/page"]


async def test_a_task_that_does_not_ask_is_not_visited(
    origin: Origin, edge: Cachelet, tmp_path: Path
) -> None:
    async with proof_of(tmp_path, [table_of("edge-1", edge)], origin=origin, proof={"verify": "all"}) as rig:
        task = await rig.purged(verify=False)
        assert (task["state"], task["verify"]) == ("done", None)
        assert edge.visits() == []
        assert (await rig.purged())["verify"]["verified"] == 1


async def test_a_cache_that_acks_and_keeps_has_the_task_failed_in_words(
    origin: Origin, edge: Cachelet, tmp_path: Path
) -> None:
    origin.set(HOST, "/page", b"old", headers={"ETag": '"a1"'})
    async with proof_of(tmp_path, [table_of("edge-1", edge)], origin=origin) as rig:
        await warm(edge)
        edge.lies, edge.age_ahead_s = -1, 311
        origin.set(HOST, "/page", b"new", headers={"ETag": '"b7"'})
        task = await rig.purged(verify=True)
        assert (task["state"], task["counter"], task["failed"]) == ("failed", 1, 0)
        assert (task["verify"]["stale"], task["nodes"][0]["stale"]) == (1, 1)
        [error] = task["errors"]
        assert (error["node"], error["target"]) == ("edge-1", URL)
        assert error["reason"].startswith('still serves ETag "a1", the origin has "b7"; stored 311 s before')
        assert [request.method for request in edge.requests] == ["GET", "PURGE", "GET", "PURGE", "GET"]
        assert [alert[:2] for alert in rig.alerts] == [("stale:edge-1", "error")]
        edge.lies = 0
        assert (await rig.purged(verify=True))["state"] == "done"
        assert rig.alerts[-1][:2] == ("stale:edge-1", "resolved")


async def test_what_a_second_purge_mends_is_verified(origin: Origin, edge: Cachelet, tmp_path: Path) -> None:
    async with proof_of(tmp_path, [table_of("edge-1", edge)], origin=origin) as rig:
        await warm(edge)
        edge.lies = 1
        origin.version = "v2"
        task = await rig.purged(verify=True)
        assert (task["state"], task["verify"]["verified"]) == ("done", 1)
        assert rig.alerts == []


async def test_an_edge_below_a_stale_parent_is_purged_again_after_it(origin: Origin, tmp_path: Path) -> None:
    class Below(Cachelet):
        def _answer(self, request: Request) -> list[bytes]:
            if request.method == "GET" and request.url not in self.kept:
                status, body, fields, since = parent.kept.get(request.url) or (200, b"", [], 0.0)
                if not body:
                    parent._answer(request)
                    status, body, fields, since = parent.kept[request.url]
                self.kept[request.url] = (status, body, fields, since)
            return super()._answer(request)

    with Cachelet(origin) as parent, Below(origin) as below:
        nodes = [table_of("parent-1", parent, layer="parent"), table_of("edge-1", below)]
        async with proof_of(tmp_path, nodes, origin=origin) as rig:
            await warm(below)
            parent.lies = 1
            origin.version = "v2"
            task = await rig.purged(verify=True)
            assert (task["state"], task["verify"]["verified"]) == ("done", 2)


async def test_without_an_origin_time_decides_and_the_document_says_so(
    origin: Origin, edge: Cachelet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proof_of(tmp_path, [table_of("edge-1", edge)]) as rig:
        task = await rig.purged(verify=True)
        assert task["verify"]["rules"] == {"time": 1}
        edge.fields = ["Cache-Status: edge; fwd=uri-miss; stored"]
        assert (await rig.purged(verify=True))["verify"]["rules"] == {"time": 1}, "and seen to say so"
        monkeypatch.setattr("engine.proof.looks._BY_AGE_S", 60)
        began = time.monotonic()
        assert (await rig.purged(verify=True))["verify"]["rules"] == {"time": 1}
        assert time.monotonic() - began < 30, "nothing is waited for"


async def test_a_clock_that_is_minutes_wrong_is_no_false_alarm(
    edge: Cachelet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.proof.looks._BY_TIME_MAX", 1)
    edge.age_ahead_s = 300
    async with proof_of(tmp_path, [table_of("edge-1", edge)]) as rig:
        task = await rig.purged(verify=True)
        assert (task["state"], task["verify"]["unverifiable"], task["verify"]["stale"]) == ("done", 1, 0)
        assert "Age (300 s)" in task["verify"]["reasons"][0]


@pytest.mark.parametrize(
    ("status", "headers", "rule"),
    [
        (200, {"ETag": '"1"'}, "etag"),
        (200, {"ETag": 'W/"1"'}, "digest"),
        (200, {"Last-Modified": OLD, "ETag": 'W/"1"'}, "last_modified"),
        (302, {"Location": "/there"}, "status"),
        (404, {}, "status"),
    ],
)
async def test_what_decides(
    origin: Origin, edge: Cachelet, tmp_path: Path, status: int, headers: dict[str, str], rule: str
) -> None:
    origin.set(HOST, "/page", b"body", status=status, headers=headers)
    async with proof_of(tmp_path, [table_of("edge-1", edge)], origin=origin) as rig:
        task = await rig.purged(verify=True)
        assert (task["state"], task["verify"]["rules"]) == ("done", {rule: 1})


async def test_each_encoding_that_the_site_names_is_looked_at(
    origin: Origin, edge: Cachelet, tmp_path: Path
) -> None:
    """One variant is stale, as of a cache that drops the plain one only."""
    origin.set(HOST, "/page", b"new")

    def script(request: Request) -> list[bytes]:
        if request.method != "GET":
            return [answer()]
        if "accept-encoding" in request.headers:
            return [answer(200, gzip.compress(b"old"), "Content-Encoding: gzip", "Vary: Accept-Encoding")]
        return [answer(200, b"new", "Vary: Accept-Encoding")]

    edge.script = script
    site = [{"host": "*", "accept_encoding": ["", "gzip"]}]
    async with proof_of(tmp_path, [table_of("edge-1", edge)], origin=origin, site=site) as rig:
        task = await rig.purged(verify=True)
        assert (task["state"], task["verify"]["stale"]) == ("failed", 1)
        assert task["errors"][0]["reason"].endswith("(Accept-Encoding: gzip)")


async def test_an_origin_that_changes_meanwhile_is_no_false_alarm(
    origin: Origin, edge: Cachelet, tmp_path: Path
) -> None:
    """The origin was asked before the change, and the node after it."""

    def script(request: Request) -> list[bytes]:
        if request.method == "GET":
            origin.version = "v3"
            return [answer(200, f"v3 {HOST}/page".encode())]
        return [answer()]

    edge.script = script
    async with proof_of(tmp_path, [table_of("edge-1", edge)], origin=origin) as rig:
        task = await rig.purged(verify=True)
        assert (task["state"], task["verify"]["verified"]) == ("done", 1)


async def test_an_origin_that_says_otherwise_each_time_leaves_it_open(
    origin: Origin, edge: Cachelet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = iter(range(1000))

    def content(host: str, path: str) -> object:
        return type(found)(body=f"{next(numbers)}".encode())

    found = origin.content(HOST, "/page")
    monkeypatch.setattr(origin, "content", content)
    async with proof_of(tmp_path, [table_of("edge-1", edge)], origin=origin) as rig:
        task = await rig.purged(verify=True)
        assert (task["state"], task["verify"]["unverifiable"]) == ("done", 1)
        assert task["verify"]["reasons"] == ["edge-1: the origin answers differently each time"]


async def test_an_origin_that_is_down_leaves_it_open(
    origin: Origin, edge: Cachelet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.proof.looks._RETRY_S", 0.01)
    monkeypatch.setattr("engine.proof.truth._GUARD_MAX_S", 0.1)
    async with proof_of(tmp_path, [table_of("edge-1", edge)], origin=origin) as rig:
        await warm(edge)
        origin.stop()
        task = await rig.purged(verify=True)
        assert (task["state"], task["verify"]["unverifiable"]) == ("done", 1)
        assert "origin" in task["verify"]["reasons"][0]


async def test_a_node_that_goes_down_after_its_ack_leaves_it_open(
    origin: Origin, edge: Cachelet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.proof.looks._RETRY_S", 0.01)
    edge.script = lambda request: [Act.RESET] if request.method == "GET" else [answer()]
    async with proof_of(tmp_path, [table_of("edge-1", edge)], origin=origin) as rig:
        task = await rig.purged(verify=True)
        assert (task["state"], task["verify"]["unverifiable"]) == ("done", 1)
        assert "a visitor of edge-1" in task["verify"]["reasons"][0]


async def test_an_answer_for_ever_is_bounded(
    origin: Origin, edge: Cachelet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin.set(HOST, "/page", b"x", headers={"ETag": '"b"'})

    def script(request: Request) -> Iterator[bytes]:
        if request.method != "GET":
            yield answer()
            return
        yield b'HTTP/1.1 200 OK\r\nETag: "a"\r\nTransfer-Encoding: chunked\r\n\r\n'
        while True:
            yield b"3e8\r\n" + b"x" * 1000 + b"\r\n"

    edge.script = script
    proof = {"body_max_bytes": 100_000}
    async with proof_of(tmp_path, [table_of("edge-1", edge)], origin=origin, proof=proof) as rig:
        task = await rig.purged(verify=True)
        assert (task["state"], task["verify"]["stale"]) == ("failed", 1)
        assert 'ETag "a"' in task["errors"][0]["reason"]


async def test_visitors_come_in_by_another_port_than_purges(
    origin: Origin, edge: Cachelet, tmp_path: Path
) -> None:
    with FakeNode() as inside:
        node = table_of("edge-1", inside, visit_url=edge.url)
        async with proof_of(tmp_path, [node], origin=origin) as rig:
            task = await rig.purged(verify=True)
            assert task["verify"]["verified"] == 1
            assert [request.method for request in inside.requests] == ["PURGE"]
            assert edge.visits() == ["/page"]


async def test_a_wide_purge_is_verified_by_the_urls_that_it_names(
    origin: Origin, edge: Cachelet, tmp_path: Path
) -> None:
    def script(request: Request) -> list[bytes]:
        if request.method == "BAN" or "purgeline-ban-url" in request.headers:
            edge.kept.clear()
        return edge._answer(request)

    edge.script = script
    site = [{"host": "www.test"}]
    async with proof_of(tmp_path, [table_of("edge-1", edge)], origin=origin, site=site) as rig:
        await warm(edge)
        origin.version = "v2"
        fields = {"kind": "prefix", "targets": [f"http://{HOST}/"]}
        task = await rig.purged(verify={"urls": [URL, f"http://{HOST}/b", URL]}, **fields)
        assert (task["state"], task["verify"]["mode"], task["verify"]["verified"]) == ("done", "urls", 2)
        for verify, word in (
            (True, "urls"),
            ({"urls": ["http://other.test/"]}, "outside the sites"),
            ({"urls": ["ftp://www.test/"]}, "not http"),
            ({"urls": []}, "1-100"),
            ({"sample": 0}, "urls"),
            ({"sampel": 1}, "sample"),
            ({}, "takes"),
        ):
            status, said = await rig.post({**fields, "verify": verify})
            assert status == 422
            assert word in said["detail"], said


async def test_more_than_can_be_visited_in_time_is_a_sample_and_the_document_says_so(
    origin: Origin, edge: Cachelet, tmp_path: Path
) -> None:
    urls = [f"http://{HOST}/{number}" for number in range(100)]
    proof = {"rate_per_s": 2}
    async with proof_of(tmp_path, [table_of("edge-1", edge)], origin=origin, proof=proof) as rig:
        await rig.submit(targets=urls, verify=True, due_s=1)
        task_id = await rig.submit(targets=[URL, *urls], verify={"sample": 3}, due_s=20)
        first = (await rig.get("/v1/engine/tasks"))["tasks"][-1]
        assert first["verify"]["mode"] == "sample"
        assert first["verify"]["note"].endswith("of 100 targets: rate_per_s leaves no time for more visits")
        second = await rig.get(f"/v1/engine/task/{task_id}")
        assert second["verify"] == {**second["verify"], "mode": "sample", "note": ""}


async def test_tasks_for_whose_visits_there_is_no_time_are_done_without_them(
    origin: Origin, edge: Cachelet, tmp_path: Path
) -> None:
    """They neither wait for turns that would come too late, nor pile up in memory."""
    proof = {"rate_per_s": 1}
    async with proof_of(tmp_path, [table_of("edge-1", edge)], origin=origin, proof=proof) as rig:
        for _ in range(20):
            await rig.submit(verify=True, due_s=1)
        lane = rig.engine.parts.proof.lookout.lane("edge-1")
        task = await rig.purged(verify=True, due_s=1)
        assert (task["state"], task["verify"]["unverifiable"]) == ("done", 1)
        assert task["verify"]["reasons"] == ["edge-1: rate_per_s leaves no time for a visit"]
        assert len(lane) <= 6  # until the first of them is due, five seconds at the least


async def test_a_wide_purge_of_a_cache_that_lies_goes_once_more_for_all_of_its_urls(
    origin: Origin, edge: Cachelet, tmp_path: Path
) -> None:
    def script(request: Request) -> list[bytes]:
        if request.path == "/1" and edge.lies:
            time.sleep(0.1)  # it is found stale when the others have had their second purge
        return edge._answer(request)

    edge.script = script
    async with proof_of(tmp_path, [table_of("edge-1", edge)], origin=origin) as rig:
        urls = [f"http://{HOST}/{number}" for number in range(3)]
        for url in urls:
            await warm(edge, url)
        edge.lies = -1
        origin.version = "v2"
        fields = {"kind": "prefix", "targets": [f"http://{HOST}/"]}
        task = await rig.purged(verify={"urls": urls}, **fields)
        assert (task["state"], task["verify"]["stale"]) == ("failed", 3)
        assert sum(request.method != "GET" for request in edge.requests) == 2
        await until(lambda: len(edge.visits()) == 9)


async def test_a_visit_that_tries_an_origin_after_its_pause_keeps_nobody_waiting(
    origin: Origin, edge: Cachelet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was let through as the one that tries, and a cache's answer shows nothing of the origin."""
    monkeypatch.setattr("engine.nodes.origin_guard.PAUSE_FIRST_S", 0.05)
    async with proof_of(tmp_path, [table_of("edge-1", edge)], origin=origin) as rig:
        [guard] = rig.engine.parts.proof.guards.all
        guard.note(503, 0.0, URL)
        await until(lambda: not guard.pauses_s)
        began = time.monotonic()
        task = await rig.purged(verify=True)
        assert (task["state"], task["verify"]["verified"], guard.reason) == ("done", 1, "")
        assert time.monotonic() - began < 10


async def test_what_waits_for_its_node_is_told(origin: Origin, edge: Cachelet, tmp_path: Path) -> None:
    with FakeNode() as away:
        away.stop()
        nodes = [table_of("edge-1", edge), table_of("edge-2", away)]
        async with proof_of(tmp_path, nodes, origin=origin) as rig:
            task = await rig.purged("partial", verify=True, due_s=60)
            expected = {"checked": 2, "verified": 1, "unverifiable": 1}
            assert task["verify"] == task["verify"] | expected
            assert task["verify"]["reasons"] == [
                "edge-2: its purge waits for the node; what is purged late is not visited"
            ]
            away.start()
            assert (await rig.settled(task["task_id"]))["state"] == "done"


async def test_a_task_with_a_second_purge_and_a_prefetch_is_visited_after_both(
    origin: Origin, edge: Cachelet, tmp_path: Path
) -> None:
    async with proof_of(tmp_path, [table_of("edge-1", edge)], origin=origin) as rig:
        task = await rig.purged(verify=True, rebound_s=0.1, prefetch=True)
        assert (task["state"], task["counter"], task["verify"]["verified"]) == ("done", 2, 1)
        assert [request.method for request in edge.requests] == ["PURGE", "PURGE", "GET", "GET"]


async def test_a_verification_that_is_not_over_is_no_done_and_goes_on_after_a_restart(
    origin: Origin, edge: Cachelet, tmp_path: Path
) -> None:
    hangs = [True]

    def script(request: Request) -> list[bytes | Act]:
        if request.method == "GET" and hangs:
            return [Act.HANG]
        return list(edge._answer(request))

    edge.script = script
    nodes = [table_of("edge-1", edge)]
    async with proof_of(tmp_path, nodes, origin=origin) as rig:
        task_id = await rig.submit(verify=True, id="kept")
        await until(edge.visits)
        task = await rig.get(f"/v1/engine/task/{task_id}")
        assert (task["state"], task["counter"]) == ("running", 1)
        assert (await rig.post({"targets": [URL], "verify": True, "id": "kept"}))[0] == 200
        assert (await rig.post({"targets": [URL], "id": "kept"}))[0] == 409
    hangs.clear()
    async with proof_of(tmp_path, nodes, origin=origin) as rig:
        task = await rig.settled(task_id)
        assert (task["state"], task["verify"]["verified"]) == ("done", 1)


async def test_time_to_fresh_is_measured_and_held_to_the_objective(
    origin: Origin, edge: Cachelet, tmp_path: Path
) -> None:
    proof = {"objective_s": 0.000001, "objective_share": 0.5}
    async with proof_of(tmp_path, [table_of("edge-1", edge)], origin=origin, proof=proof) as rig:
        for _ in range(2):
            await rig.purged(verify=True)
        stats = rig.engine.parts.core.stats
        assert sum(stats.fresh_s["edge"].counts) == 2
        assert (stats.fresh_counted, stats.fresh_missed) == (2, 2)
