"""Prefetches keep to the rate of their origin, leave it alone in trouble, and go on by themselves."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tests.fakes.node import FakeNode, Request, answer
from tests.rigs.proof_rig import HOST, URL, Cachelet, proof_of, table_of
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from release.lab.origin import Origin

SLOW_HOST, OTHER_HOST = "slow.test", "other.test"


def urls(host: str, count: int) -> list[str]:
    return [f"http://{host}/{number}" for number in range(count)]


def origins(**more: Any) -> list[dict[str, Any]]:
    return [{"host": SLOW_HOST, "url": "http://127.0.0.1:9", **more}]


async def test_prefetches_keep_to_the_rate_and_others_go_on(tmp_path: Path) -> None:
    with FakeNode() as edge:
        async with proof_of(tmp_path, [table_of("edge-1", edge)], origins=origins(prefetch_per_s=4)) as rig:
            began = time.monotonic()
            limited = await rig.submit(action="prefetch", targets=urls(SLOW_HOST, 6))
            await rig.purged(action="prefetch", targets=urls(OTHER_HOST, 20))
            assert sum(request.host == SLOW_HOST for request in edge.requests) <= 5
            await rig.settled(limited)
            assert time.monotonic() - began >= 0.45  # four at once, and two more
            [origin] = (await rig.get("/v1/engine/stats"))["proof"]["origins"]
            assert (origin["host"], origin["reason"], origin["held"] > 0) == (SLOW_HOST, "", True)


async def test_an_origin_in_trouble_is_left_alone_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.nodes.origin_guard.PAUSE_FIRST_S", 0.3)
    well: list[bool] = []

    def script(request: Request) -> list[bytes]:
        return [answer(200 if well or request.host == OTHER_HOST else 503)]

    with FakeNode(script) as edge:
        async with proof_of(tmp_path, [table_of("edge-1", edge)], origins=origins()) as rig:
            task_id = await rig.submit(action="prefetch", targets=urls(SLOW_HOST, 50))
            await until(lambda: rig.engine.parts.proof.guards.all[0].reason)
            await rig.purged(action="prefetch", targets=urls(OTHER_HOST, 5))
            asked = sum(request.host == SLOW_HOST for request in edge.requests)
            assert asked <= 8  # those that were on the wire
            [origin] = (await rig.get("/v1/engine/stats"))["proof"]["origins"]
            assert origin["reason"] == "answered 503"
            well.append(True)
            assert (await rig.settled(task_id))["state"] == "done"
            assert rig.engine.parts.proof.guards.all[0].reason == ""


async def test_a_first_byte_that_is_late_is_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.nodes.origin_guard.SLOW_S", 0.1)
    monkeypatch.setattr("engine.nodes.fetch_guard.SLOW_S", 0.1)

    def script(request: Request) -> list[bytes]:
        if request.path == "/0":
            time.sleep(0.25)
        return [answer()]

    with FakeNode(script) as edge:
        async with proof_of(tmp_path, [table_of("edge-1", edge)], origins=origins()) as rig:
            task_id = await rig.submit(action="prefetch", targets=urls(SLOW_HOST, 1))
            guard = rig.engine.parts.proof.guards.all[0]
            await until(lambda: "first byte" in guard.reason)
            assert guard.pauses_s > 0
            await rig.settled(task_id)


async def test_why_says_at_once_that_an_origin_is_left_alone_and_tells_what_it_has(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Varnish may fetch what it is asked for, so it is not; ATS is asked for what it has."""
    monkeypatch.setattr("engine.nodes.origin_guard.PAUSE_FIRST_S", 20)
    origin.set(HOST, "/page", b"page")
    with Cachelet(origin) as fetches, Cachelet(origin) as tells:
        nodes = [table_of("edge-1", fetches), table_of("edge-2", tells, driver="ats")]
        async with proof_of(tmp_path, nodes, origin=origin) as rig:
            await rig.purged()
            rig.engine.parts.proof.guards.all[0].note(503, 0.0, URL)
            began = time.monotonic()
            found = await rig.get(f"/v1/engine/why?url={URL}")
            assert time.monotonic() - began < 15
        assert fetches.visits() == []
    assert found["origin"]["error"] == "the origin answered 503, and is left alone for 20 s more"
    assert [node["conclusion"] for node in found["nodes"]] == ["unproven", "unproven"]
    assert [len(node["answers"]) for node in found["nodes"]] == [0, 1]
    assert "edge-1 was not asked for the page at " in found["nodes"][0]["sentence"]
    assert "left alone for 20 s more" in found["sentence"]
    assert f"`purgeline why {URL}`" in found["sentence"]
    assert {node["outcome"] for node in found["purges"][0]["nodes"]} == {"acked"}
