"""The engines that share a store, as they are shown."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from engine.cluster.document import cluster_document
from engine.store.redis.members import About, Member, View


def member(consumer: str, *, lives: bool = True) -> Member:
    about = About(name=consumer.upper(), host="h", pid=1, version="1.0", listen="h:1", started_at=5.0)
    return Member(consumer, about, lives, has_left=False)


def document(*members: Member, gone: str = "", pending: Any = None, oldest: Any = None) -> dict[str, Any]:
    membership: Any = SimpleNamespace(
        view=View("a", 4, list(members)),
        consumer="a",
        is_gone=lambda one: one.consumer == gone,
        is_silent=lambda one: not one.lives,
    )
    return cluster_document(membership, pending or {}, oldest or {}, region_count=16, now=100.0)


def test_an_engine_is_alive_silent_or_gone() -> None:
    shown = document(member("a"), member("b", lives=False), member("c", lives=False), gone="c")
    assert [engine["state"] for engine in shown["engines"]] == ["alive", "silent", "gone"]
    assert [engine["leader"] for engine in shown["engines"]] == [True, False, False]


def test_entries_are_counted_for_their_engine_and_for_nobody() -> None:
    shown = document(member("a"), pending={"a": {0: 2, 3: 1}, "lost": {1: 5}}, oldest={"a": 97.5})
    assert shown["engines"][0]["pending"] == 3
    assert shown["engines"][0]["lag_s"] == 2.5
    assert (shown["pending"], shown["pending_of_nobody"]) == (8, 5)


def test_a_clock_that_is_behind_makes_no_negative_lag() -> None:
    shown = document(member("a"), oldest={"a": 101.0})
    assert shown["engines"][0]["lag_s"] == 0


def test_nobody_leads_before_somebody_does() -> None:
    membership: Any = SimpleNamespace(view=View(), consumer="a", is_gone=lambda _: False)
    shown = cluster_document(membership, {}, {}, region_count=16, now=0)
    assert (shown["leader"], shown["fence"], shown["self"], shown["region_count"]) == (None, 0, "a", 16)
