"""What the leading engine does for all."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from engine.cluster.leader import Leader
from engine.observe.counters import Stats
from engine.store.redis.members import About, Member, View
from engine.tasks.records import Callback


class Store:
    """The store's side, threads, claims, delay queues and callbacks: what the leader works with."""

    def __init__(self) -> None:
        self.fences: list[int] = []
        self.is_later = False
        self.away: set[int] = set()
        self.store = SimpleNamespace(keys=SimpleNamespace(count=4))
        self.due = (["partial", "partial"], [Callback("0:1-0", "t", "http://a/", "{}")])
        self.written_callbacks: list[Callback] = []
        self.log: list[str] = []

    async def call(self, function: Any, *args: object) -> Any:
        return function(*args)

    def fence(self, number: int, regions: list[int]) -> set[int] | None:
        self.fences.append(number)
        return None if self.is_later else set(regions) - self.away

    def grow_fence(self) -> int:
        return 0

    def alert(self, key: str, level: str, message: str) -> None:
        self.log.append(message)

    def make_due(self, now: float, fence: int) -> tuple[list[str], list[Callback]]:
        assert fence == self.fences[-1]
        return self.due

    def written(self, saver_number: int, callbacks: list[Callback]) -> None:
        assert saver_number == 0
        self.written_callbacks += callbacks

    async def look(self, elsewhere: set[str]) -> None:
        self.log.append(f"look beside {sorted(elsewhere)}")


def make() -> tuple[Leader, Store, Stats, Any]:
    store: Any = Store()
    stats = Stats()
    view = View("me", 4, [Member("me", About(nodes=["e1"]), lives=True, has_left=False)])
    membership: Any = SimpleNamespace(view=view, configured=lambda: {"e1"}, now=lambda: 5.0)
    leader = Leader(membership, store, store, on_alert=store.alert, gone=store, callbacks=store, stats=stats)
    return leader, store, stats, membership


async def test_stored_tasks_become_partial_and_their_callbacks_go_out() -> None:
    leader, store, stats, _ = make()
    await leader.lead()
    assert stats.tasks_partial == 2
    assert [callback.task_id for callback in store.written_callbacks] == ["t"]


async def test_all_regions_are_told_once_who_leads() -> None:
    leader, store, _, membership = make()
    await leader.lead()
    await leader.lead()
    assert store.fences == [4]
    membership.view.fence = 5
    await leader.lead()
    assert store.fences == [4, 5]


async def test_a_region_that_is_away_is_told_when_it_is_back() -> None:
    leader, store, stats, _ = make()
    store.away = {2}
    await leader.lead()
    assert stats.tasks_partial == 2
    store.away = set()
    await leader.lead()
    await leader.lead()
    assert store.fences == [4, 4]


async def test_one_that_another_engine_has_followed_does_nothing() -> None:
    leader, store, stats, _ = make()
    store.is_later = True
    await leader.lead()
    assert stats.tasks_partial == 0
    assert store.log == []


async def test_rows_of_nodes_that_no_engine_configures_are_looked_at() -> None:
    leader, store, _, _ = make()
    await leader.lead()
    assert store.log == ["look beside ['e1']"]


async def test_a_number_that_is_lost_before_the_first_round_is_told_to_regions_too() -> None:
    """They answer that there was a greater one, and the leader's goes past it."""
    leader, store, _, membership = make()
    membership.view.fence = 0
    await leader.lead()
    assert store.fences == [0]
