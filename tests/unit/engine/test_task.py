"""Tasks and shares in memory."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from engine.tasks.task import Share, Task
from engine.tasks.words import Operation


def test_an_internal_task_has_an_owner_and_finds_its_targets() -> None:
    owner = object()
    task = Task.internal(["a", "b", "c"], owner=owner, task_id="t")
    assert task.owner is owner
    assert [task.index_of(target) for target in "cab"] == [2, 0, 1]
    with pytest.raises(KeyError):
        task.index_of("d")
    assert "t accepted url [3 targets]" in repr(task)


def test_a_share_shows_its_progress() -> None:
    share = Share(
        Task.internal(["a"], owner=None, task_id="t"), SimpleNamespace(name="n"), Operation.PURGE_URL, 1
    )
    share.acked = 1
    assert repr(share) == "<Share t on n [1/1 acked]>"
