"""Forgetting a node, over all workers of an engine."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

from engine.api.forget import ForgetNode
from engine.errors import RequestError, StoreError


class Gone:
    """The stores of one worker."""

    def __init__(self, **failed: int) -> None:
        self.failed = failed

    def is_gone(self, name: str, elsewhere: set[str]) -> bool:
        return name != "e1" and name not in elsewhere

    def is_configured(self, name: str) -> bool:
        return name == "e1"

    async def is_known(self, name: str) -> bool:
        return name in self.failed

    async def forget(self, name: str) -> int:
        return self.failed.pop(name)


def forget_of(
    gone: Gone,
    *answers: tuple[int, dict[str, Any]] | Exception,
    elsewhere: set[str] | None = None,
    is_replayed: bool = True,
) -> ForgetNode:
    async def ask_slots(method: str, path: str) -> list[Any]:
        assert (method, path) == ("DELETE", "/worker/nodes/old")
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return [SimpleNamespace(status=one[0], body=json.dumps(one[1]).encode()) for one in answers]  # type: ignore[index]

    peers: Any = SimpleNamespace(ask_slots=ask_slots) if answers else None
    cluster: Any = None if elsewhere is None else SimpleNamespace(configured=lambda: elsewhere)
    replayed = asyncio.Event()
    if is_replayed:
        replayed.set()
    return ForgetNode(gone, peers=peers, cluster=cluster, replayed=replayed)  # type: ignore[arg-type]


async def test_the_rows_of_all_workers_fail_and_are_counted() -> None:
    forget = forget_of(Gone(old=2), (200, {"known": True, "failed": 3}), (200, {"known": False, "failed": 0}))
    assert await forget.forget("old") == {"node": "old", "failed": 5}


async def test_one_that_nobody_has_heard_of_is_not_there() -> None:
    with pytest.raises(RequestError, match="'old' is not configured, and nothing waits for it") as error:
        await forget_of(Gone(), (200, {"known": False, "failed": 0})).forget("old")
    assert error.value.status == 404


@pytest.mark.parametrize(("name", "where"), [("e1", "this engine"), ("e2", "another engine of this store")])
async def test_one_that_is_configured_is_refused(name: str, where: str) -> None:
    with pytest.raises(RequestError, match=f"{name} is configured in {where}") as error:
        await forget_of(Gone(e1=1, e2=1), elsewhere={"e2"}).forget(name)
    assert error.value.status == 409


async def test_what_a_worker_cannot_do_is_told_and_may_be_asked_again() -> None:
    with pytest.raises(StoreError, match="does not answer"):
        await forget_of(Gone(old=1), StoreError("a worker does not answer")).forget("old")
    with pytest.raises(StoreError, match="could not forget it: disk full"):
        await forget_of(Gone(old=1), (503, {"detail": "disk full"})).forget("old")
    with pytest.raises(RequestError, match="is configured in"):
        await forget_of(Gone(old=1), (409, {"detail": "old is configured in this engine"})).forget("old")


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "a?b", "é", "x" * 65])
async def test_what_can_be_no_nodes_name_is_not_asked_for(name: str) -> None:
    with pytest.raises(RequestError, match="is not configured, and nothing waits for it") as error:
        await forget_of(Gone(), TimeoutError()).forget(name)
    assert error.value.status == 404


async def test_what_the_worker_before_this_one_may_still_send_is_left_to_it() -> None:
    gone = Gone(old=1)
    with pytest.raises(StoreError, match="the worker before this one may still send what waits"):
        await forget_of(gone, is_replayed=False).forget("old")
    assert gone.failed == {"old": 1}
