"""Whose is a node's delay queue."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engine.cluster.claims import QueueClaims
from engine.errors import StoreError


class Locks:
    """The store's locks; *others* are held by other engines."""

    def __init__(self) -> None:
        self.others: set[str] = set()
        self.ours: set[str] = set()
        self.is_away = False
        self.store = SimpleNamespace(link=SimpleNamespace(has_parts=True))
        self.on_lock: Any = lambda: None

    def lock(self, node: str, of: str = "") -> str:
        if node in self.others and of != "other":
            return "other"
        self.ours.add(node)
        return ""

    def unlock(self, node: str) -> None:
        self.ours.discard(node)

    async def call(self, function: Any, *args: object) -> Any:
        if self.is_away:
            raise StoreError("its server is away")
        answer = function(*args)
        self.on_lock()
        return answer


def make(me: str = "one") -> tuple[QueueClaims, Locks]:
    locks = Locks()
    recorder: Any = locks
    membership: Any = SimpleNamespace(
        consumer=me, workers=lambda: ["one", "other"], is_nobody=lambda name: False
    )
    return QueueClaims(recorder, recorder, membership), locks


async def test_with_the_server_of_a_claim_away_one_engine_delivers_all_the_same() -> None:
    (one, locks), (other, others) = make(), make("other")
    locks.is_away = others.is_away = True
    for node in ("e1", "e2", "e3"):
        assert await one.take(node) != await other.take(node)
        await one.give_back(node)
    locks.store.link.has_parts = False
    with pytest.raises(StoreError):
        await one.take("e1")


async def test_a_queue_that_another_engine_delivers_is_not_taken() -> None:
    claims, locks = make()
    locks.others.add("e1")
    assert not await claims.take("e1")
    assert await claims.take("e2")
    assert locks.ours == {"e2"}


async def test_what_is_given_back_is_free_and_what_was_not_taken_stays() -> None:
    claims, locks = make()
    await claims.take("e1")
    locks.ours.add("e2")
    await claims.give_back("e1")
    await claims.give_back("e2")
    assert locks.ours == {"e2"}


async def test_a_claim_that_another_engine_has_by_now_is_let_go() -> None:
    claims, locks = make()
    await claims.take("e1")
    locks.ours.clear()
    locks.others.add("e1")
    await claims.keep_all()
    locks.others.clear()
    await claims.keep_all()
    assert locks.ours == set()


async def test_a_claim_given_back_while_it_is_renewed_does_not_come_to_life_again() -> None:
    claims, locks = make()
    await claims.take("e1")
    locks.on_lock = claims._claimed.clear
    await claims.keep_all()
    assert locks.ours == set()


async def test_all_are_given_back_at_the_end() -> None:
    claims, locks = make()
    await claims.take("e1")
    await claims.take("e2")
    await claims.give_back_all()
    assert locks.ours == set()
