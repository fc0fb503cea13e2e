"""A look at the engine: whatever hangs, there is a picture in time, and it says what is old in it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from engine.console.looking import Look
from engine.errors import StoreError
from engine.workers.latest import LatestAnswers
from engine.workers.peers import Peer, PeerReply

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.console.picture import Picture

LIMIT_S = 0.05
FIRST, SECOND = Peer(1, 2, "/run/2.sock"), Peer(2, 3, "/run/3.sock")


class Workers:
    """Others that count how often they were asked; those in *hanging* answer once that is cleared."""

    def __init__(self, *live: Peer) -> None:
        self.live = list(live)
        self.asked = dict.fromkeys(live, 0)
        self.hanging: set[Peer] = set()
        self.dead: set[Peer] = set()
        self.awake = asyncio.Event()

    def others(self) -> list[Peer]:
        return self.live

    async def ask(self, peer: Peer, _method: str, _path: str, _body: bytes = b"") -> PeerReply:
        self.asked[peer] += 1
        said = b"%d:%d" % (peer.slot, self.asked[peer])
        if peer in self.dead:
            raise ConnectionRefusedError
        if peer in self.hanging:
            await self.awake.wait()
        return PeerReply(200, {}, said)


class Engine:
    """Its nodes are what the workers answered; a part in *hanging* never comes, one in *failing* fails."""

    def __init__(self) -> None:
        self.hanging: set[str] = set()
        self.failing: set[str] = set()
        self.begun: list[str] = []

    async def _part(self, name: str) -> None:
        self.begun.append(name)
        if name in self.hanging:
            await asyncio.Event().wait()
        if name in self.failing:
            raise StoreError("Redis does not answer")

    async def all_stats(self, _ask: Callable[[str], Awaitable[list[bytes]]] | None = None) -> dict[str, Any]:
        await self._part("stats")
        return {"count": self.begun.count("stats")}

    async def all_nodes(
        self, ask: Callable[[str], Awaitable[list[bytes]]] | None = None
    ) -> list[dict[str, Any]]:
        await self._part("nodes")
        said = [] if ask is None else await ask("/worker/nodes")
        return [{"name": body.decode()} for body in said]

    async def cluster_document(self) -> dict[str, Any]:
        await self._part("cluster")
        return {"mode": "embedded"}


def nothing() -> str:
    return ""


def names(picture: Picture) -> list[str]:
    assert picture.nodes is not None
    return [node["name"] for node in picture.nodes]


async def test_a_worker_that_hangs_holds_up_one_look_and_its_last_answer_stands_in_for_it() -> None:
    workers = Workers(FIRST, SECOND)
    look = Look(Engine(), nothing, LatestAnswers(workers, limit_s=LIMIT_S))
    picture = await look(None)
    assert (names(picture), picture.trouble) == (["1:1", "2:1"], "")
    workers.hanging.add(FIRST)
    picture = await look(picture)
    assert names(picture) == ["1:1", "2:2"]
    assert picture.trouble == "worker 1 of this engine does not answer: its part is an older one"
    began = asyncio.get_running_loop().time()
    for _ in range(3):
        picture = await look(picture)
    assert asyncio.get_running_loop().time() - began < LIMIT_S
    assert names(picture) == ["1:1", "2:5"]
    assert workers.asked[FIRST] == 2  # not once more with each look
    workers.hanging.clear()
    workers.awake.set()
    await asyncio.sleep(0)
    picture = await look(picture)
    assert (names(picture), picture.trouble) == (["1:3", "2:6"], "")


async def test_a_worker_that_died_is_told_of_until_another_is_in_its_place() -> None:
    workers = Workers(FIRST)
    latest = LatestAnswers(workers, limit_s=LIMIT_S)
    assert await latest.ask_all("/worker/nodes") == [b"1:1"]
    workers.dead.add(FIRST)
    assert await latest.ask_all("/worker/nodes") == [b"1:1"]
    assert latest.silent == [1]
    workers.live = [SECOND]
    workers.asked[SECOND] = 0
    assert await latest.ask_all("/worker/nodes") == [b"2:1"]
    assert latest.silent == []


async def test_a_page_that_is_opened_anew_is_shown_no_answer_of_before() -> None:
    workers = Workers(FIRST)
    look = Look(Engine(), nothing, LatestAnswers(workers, limit_s=LIMIT_S))
    await look(None)
    workers.hanging.add(FIRST)
    picture = await look(None)
    assert picture.nodes == []
    assert "worker 1" in picture.trouble


async def test_a_part_that_hangs_holds_up_no_other_and_is_read_once() -> None:
    engine = Engine()
    look = Look(engine, nothing, limit_s=LIMIT_S)
    engine.hanging.add("cluster")
    for count in (1, 2, 3):
        picture = await asyncio.wait_for(look(None), 5)
        assert (picture.stats, picture.cluster) == ({"count": count}, {})
        assert picture.trouble == "cluster cannot be read at the moment"
    assert engine.begun.count("cluster") == 1


async def test_of_a_part_that_cannot_be_read_the_one_before_is_shown() -> None:
    engine = Engine()
    look = Look(engine, nothing)
    before = await look(None)
    engine.failing = {"stats"}
    picture = await look(before)
    assert (picture.stats, picture.trouble) == ({"count": 1}, "Redis does not answer")


async def test_nodes_that_could_not_be_read_yet_are_not_known_rather_than_none() -> None:
    engine = Engine()
    engine.hanging.add("nodes")
    picture = await Look(engine, nothing, limit_s=LIMIT_S)(None)
    assert (picture.nodes, picture.trouble) == (None, "nodes cannot be read at the moment")
    assert (await Look(Engine(), nothing)(None)).nodes == []
