"""Which rows of tasks on other engines a node that has come back waits for."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from engine.cluster.kept_elsewhere import KeptElsewhere
from engine.store.redis.members import About

if TYPE_CHECKING:
    import pytest


class Others:
    """Stands in for the membership, the loop's clock and the node."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.seen_at = 0.0
        self.beats = 0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)
        self.about = {"other": About()}
        self.node: Any = SimpleNamespace(name="e1", health=SimpleNamespace(since=1.0))
        membership: Any = self
        self.elsewhere = KeptElsewhere(membership)

    async def beat(self, since: float) -> None:
        """See `Membership.beat`."""
        if self.seen_at < since:
            self.seen_at = self.now
            self.beats += 1

    def said(self) -> dict[str, About]:
        return self.about

    async def keep(self, count: int, **keeps: int) -> bool:
        """Let the other engine say so, and tell whether the node waits."""
        self.about["other"] = About(kept_count=count, keeps=keeps)
        return await self.elsewhere.has_for(self.node)


async def test_a_node_waits_for_what_was_kept_when_it_came_back_and_for_nothing_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = Others(monkeypatch)
    assert not await others.keep(7, e2=7)
    assert await others.keep(8, e1=5)
    others.now += 1.9  # what an engine says may be so old
    assert await others.keep(9, e1=9)
    others.now += 0.2
    assert await others.keep(20, e1=9)
    assert not await others.keep(20, e1=10)


async def test_each_return_of_a_node_waits_for_what_was_kept_until_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = Others(monkeypatch)
    assert await others.keep(5, e1=5)
    others.now += 60
    assert not await others.keep(8, e1=8)
    assert await others.keep(8, e1=8)
    others.now += 60
    others.node.health.since = 2.0
    assert await others.keep(9, e1=9)


async def test_all_engines_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    others = Others(monkeypatch)
    others.about["third"] = About(kept_count=1, keeps={"e1": 1})
    assert await others.keep(0)


async def test_nodes_that_wait_share_a_beat_and_none_is_ready_without_one_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = Others(monkeypatch)
    nodes: list[Any] = [SimpleNamespace(name=f"e{n}", health=SimpleNamespace(since=1.0)) for n in range(30)]
    others.about["other"] = About(kept_count=1, keeps={node.name: 1 for node in nodes})
    for node in nodes:
        others.now += 0.005
        assert await others.elsewhere.has_for(node)
    assert others.beats == 1
    others.about["other"] = About(kept_count=1)
    for node in nodes:
        others.now += 0.005
        assert not await others.elsewhere.has_for(node)
    assert others.beats == 31
