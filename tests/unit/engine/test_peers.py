"""Which worker has a task, and asking until one answers. The asking itself is a recorder."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import msgspec
import pytest

from engine.errors import StoreError
from engine.tasks.shards import slot_of
from engine.workers.peers import Peer, PeerReply, Peers, worker_path

MINE = next(f"t{number}" for number in range(100) if slot_of(f"t{number}", 2) == 0)
OTHERS = next(f"t{number}" for number in range(100) if slot_of(f"t{number}", 2) == 1)


class Scripted(Peers):
    """Slot 0 of two, generation 3; *answers* says what a worker answers: status, or an error."""

    def __init__(self, answers: dict[int, Any] | None = None, *, slot: int = 0) -> None:
        super().__init__(slot, 2, 3)
        self.answers = answers or {}
        self.asked: list[tuple[int, str, str]] = []

    async def ask(self, peer: Peer, method: str, path: str, body: bytes = b"") -> PeerReply:
        self.asked.append((peer.generation, method, path))
        answer = self.answers[peer.generation]
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return PeerReply(answer, {}, msgspec.json.encode({"task_id": path, "detail": "why"}))


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.workers.peers._PAUSE_S", 0)


def table(*workers: tuple[int, int]) -> list[Peer]:
    return [Peer(slot, generation, f"/run/{generation}.sock") for slot, generation in workers]


def test_a_task_belongs_to_the_slot_of_its_id() -> None:
    peers = Peers(0, 2, 3)
    assert peers.is_mine(MINE)
    assert not peers.is_mine(OTHERS)
    assert Peers(0, 1, 1).is_mine(OTHERS)


async def test_the_newest_worker_of_a_slot_comes_first_and_this_one_is_no_other() -> None:
    peers = Peers(0, 2, 3)
    peers.update(table((1, 2), (0, 3), (1, 4), (0, 1)))
    assert [peer.generation for peer in peers.all()] == [3, 1, 4, 2]
    assert [peer.generation for peer in peers.others()] == [1, 4, 2]
    assert [peer.generation for peer in peers.others_of(OTHERS)] == [4, 2]
    assert [peer.generation for peer in peers.others_of(MINE)] == [1]


async def test_only_an_older_worker_of_the_same_slot_is_a_predecessor() -> None:
    peers = Peers(0, 2, 3)
    peers.update(table((0, 3), (1, 2), (0, 4)))
    assert not peers.has_predecessor()
    peers.update(table((0, 3), (0, 2)))
    assert peers.has_predecessor()


async def test_the_first_worker_that_has_the_task_answers() -> None:
    peers = Scripted({4: 404, 2: 200})
    peers.update(table((1, 2), (1, 4)))
    reply = await peers.ask_owner("GET", "/x", OTHERS)
    assert reply is not None
    assert reply.status == 200
    assert peers.asked == [(4, "GET", "/x"), (2, "GET", "/x")]


async def test_none_has_it_when_all_say_so() -> None:
    peers = Scripted({4: 404, 2: 404})
    peers.update(table((1, 2), (1, 4)))
    assert await peers.ask_owner("GET", "/x", OTHERS) is None
    assert await peers.find(OTHERS) is None


@pytest.mark.parametrize(
    "silence", [410, aiohttp.ServerDisconnectedError(), ConnectionResetError(), TimeoutError()]
)
async def test_a_worker_that_is_ending_is_asked_again(silence: Any) -> None:
    peers = Scripted({2: [silence, silence, 200]})
    peers.update(table((1, 2)))
    reply = await peers.ask_owner("GET", "/x", OTHERS)
    assert reply is not None
    assert len(peers.asked) == 3


async def test_a_slot_without_a_worker_is_waited_for_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engine.workers.peers._FIND_LIMIT_S", 0)
    with pytest.raises(StoreError, match="there is none at the moment"):
        await Scripted().ask_owner("GET", "/x", OTHERS)


async def test_no_other_worker_of_the_own_slot_is_no_reason_to_wait() -> None:
    assert await Scripted().ask_owner("GET", "/x", MINE) is None


async def test_a_worker_that_cannot_tell_is_an_error_not_a_task() -> None:
    peers = Scripted({2: 503})
    peers.update(table((1, 2)))
    with pytest.raises(StoreError, match="the worker that has this task cannot tell: why"):
        await peers.find(OTHERS)


async def test_whoever_must_be_sure_says_so() -> None:
    peers = Scripted({2: 200})
    peers.update(table((1, 2)))
    await peers.find(OTHERS, is_sure=True)
    assert peers.asked == [(2, "GET", f"/worker/task/{OTHERS}?sure=1")]


def test_no_character_of_a_name_ends_the_path_it_stands_in() -> None:
    assert worker_path("tasks") == "/worker/tasks"
    assert worker_path("nodes", "a/b?c#d%2F") == "/worker/nodes/a%2Fb%3Fc%23d%252F"
    assert (
        worker_path("task", "t", token="a&token=b+c#d é")
        == "/worker/task/t?token=a%26token%3Db%2Bc%23d+%C3%A9"
    )


async def test_those_that_do_not_answer_are_left_out_of_all() -> None:
    peers = Scripted({1: 200, 2: 404, 4: TimeoutError()})
    peers.update(table((0, 1), (1, 2), (1, 4), (0, 3)))
    assert len(await peers.ask_all("/worker/stats")) == 1


async def test_every_slot_is_asked_and_one_that_is_announced_meanwhile_too() -> None:
    class Announcing(Scripted):
        async def ask(self, peer: Peer, method: str, path: str, body: bytes = b"") -> PeerReply:
            asyncio.get_running_loop().call_soon(self.update, table((0, 3), (1, 2), (0, 5), (1, 6)))
            return await super().ask(peer, method, path, body)

    peers = Announcing({2: 200, 5: 200, 6: 200})
    peers.update(table((0, 3), (1, 2)))
    assert len(await peers.ask_slots("PUT", "/x")) == 3
    assert sorted(generation for generation, _, _ in peers.asked) == [2, 5, 6]


async def test_alone_in_its_slots_it_sees_who_is_announced_meanwhile() -> None:
    """The order is on its way: a worker of the only slot reads it before it says that all have been asked."""
    peers = Scripted({5: 200})
    peers.count = 1
    peers.update(table((0, 3)))
    asyncio.get_running_loop().call_soon(peers.update, table((0, 3), (0, 5)))
    assert [reply.status for reply in await peers.ask_slots("PUT", "/x")] == [200]


async def test_that_a_worker_is_ending_is_no_answer_of_its_slot() -> None:
    class Exiting(Scripted):
        async def ask(self, peer: Peer, method: str, path: str, body: bytes = b"") -> PeerReply:
            if len(self.asked) == 3:
                self.update(table((0, 3), (1, 6)))
            return await super().ask(peer, method, path, body)

    peers = Exiting({2: 410, 6: 200})
    peers.update(table((0, 3), (1, 2)))
    assert [reply.status for reply in await peers.ask_slots("PUT", "/x")] == [200]


async def test_a_slot_that_does_not_answer_is_named_and_where_it_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engine.workers.peers._FIND_LIMIT_S", 0)
    peers = Scripted({2: TimeoutError(), 4: 200})
    peers.update(table((0, 3), (0, 4), (1, 2)))
    said = r"worker 1 of this engine does not answer, .*: TimeoutError\(\); it is done in worker 0"
    with pytest.raises(StoreError, match=said):
        await peers.ask_slots("PUT", "/x")


async def test_that_a_newer_worker_of_the_slot_has_gone_is_told() -> None:
    """Not that an older one has, nor one of another slot."""
    peers = Peers(0, 2, 3)
    lost: list[int] = []
    peers.on_successor_lost = lambda: lost.append(1)
    peers.update(table((0, 1), (0, 3), (1, 2), (1, 5)))
    peers.update(table((0, 3), (0, 4), (1, 2)))
    assert not lost
    peers.update(table((0, 3), (1, 2)))
    assert lost == [1]


async def test_that_there_is_a_newer_worker_of_the_slot_is_told() -> None:
    peers = Peers(0, 2, 3)
    told: list[int] = []
    peers.on_successor = lambda: told.append(1)
    peers.update(table((0, 1), (0, 3), (1, 2), (1, 5)))
    assert not told
    peers.update(table((0, 1), (0, 3), (0, 4), (1, 2)))
    assert told == [1]
