"""Requests that may be what ends a node's connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.nodes.suspects import Suspects
from engine.tasks.words import Operation
from tests.fakes.shares import items_of

if TYPE_CHECKING:
    from engine.nodes.queue import Item


def item(target: str, operation: Operation = Operation.PURGE_URL) -> Item:
    return items_of(target, operation=operation)[0]


def test_a_request_is_counted_by_operation_and_target_whatever_its_task() -> None:
    suspects = Suspects()
    assert [suspects.count(item("http://a.com/")) for _ in range(3)] == [1, 2, 3]
    assert suspects.count(item("http://a.com/", Operation.SOFT_URL)) == 1
    assert suspects.count(item("http://b.com/")) == 1


def test_an_answer_clears_a_request() -> None:
    suspects = Suspects()
    suspects.count(item("http://a.com/"))
    suspects.clear([item("http://a.com/"), item("http://b.com/")])
    assert not suspects.counts
    assert suspects.count(item("http://a.com/")) == 1


def test_suspects_are_bounded() -> None:
    suspects = Suspects()
    for number in range(3000):
        suspects.count(item(f"http://a.com/{number}"))
    assert len(suspects.counts) <= 1024
