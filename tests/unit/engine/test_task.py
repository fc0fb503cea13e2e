"""Tasks and shares in memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from engine.tasks.task import Share, Task
from engine.tasks.words import Operation

if TYPE_CHECKING:
    from collections.abc import Sequence


class Recorder:
    """An owner that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def acked(self, share: Share, indexes: Sequence[int], *, is_absent: bool = False) -> None:
        self.told += [f"acked {share.task.targets[index]}" for index in indexes]

    def failed(self, share: Share, indexes: Sequence[int], reason: str) -> None:
        self.told += [f"failed {share.task.targets[index]}: {reason}" for index in indexes]

    def parked(self, share: Share, indexes: Sequence[int]) -> None:
        self.told += [f"parked {share.task.targets[index]}" for index in indexes]

    def postponed(self, share: Share, indexes: Sequence[int]) -> None:
        self.told += [f"postponed {share.task.targets[index]}" for index in indexes]

    def acked_beside(self, share: Share, index: int, began_at: float, now: float) -> float:
        raise AssertionError


def test_an_internal_task_has_an_owner_and_finds_its_targets() -> None:
    owner = Recorder()
    task = Task.internal(["a", "b", "c"], owner=owner, task_id="t")
    assert task.owner is owner
    assert task.is_internal
    assert [task.index_of(target) for target in "cab"] == [2, 0, 1]
    with pytest.raises(KeyError):
        task.index_of("d")
    assert "t accepted url [3 targets]" in repr(task)


def test_a_task_is_committed_when_nobody_waits_for_its_commit_any_more() -> None:
    task = Task.internal(["a"], owner=None, task_id="t")
    assert not task.is_internal
    task.waiters = [lambda reply: None]
    assert not task.is_committed
    task.waiters = None
    assert task.is_committed


def test_a_share_shows_its_progress() -> None:
    share = Share(
        Task.internal(["a"], owner=None, task_id="t"), SimpleNamespace(name="n"), Operation.PURGE_URL, 1
    )
    share.acked_count = 1
    assert repr(share) == "<Share t on n [1/1 acked]>"
