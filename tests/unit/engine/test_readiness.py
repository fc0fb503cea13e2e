"""Whether requests should come here, and why not."""

from __future__ import annotations

import asyncio

import pytest

from engine.api.readiness import Readiness
from engine.errors import StoreError


class Savers:
    error: StoreError | None = None
    is_partial = False


async def test_ready_only_between_prepared_and_draining() -> None:
    readiness = Readiness(Savers())
    assert readiness.not_ready_reason() == "the engine is starting"
    readiness.note_prepared()
    assert readiness.not_ready_reason() == ""
    readiness.note_draining()
    assert readiness.not_ready_reason() == "the engine is draining"
    assert readiness.is_draining
    assert not readiness.is_ending


async def test_a_store_that_fails_is_a_reason_but_not_when_a_part_of_it_works() -> None:
    savers = Savers()
    readiness = Readiness(savers)
    readiness.note_prepared()
    savers.error = StoreError("disk full")
    assert readiness.not_ready_reason() == "the store fails: disk full"
    savers.is_partial = True
    assert readiness.not_ready_reason() == ""


async def test_a_request_that_comes_early_waits_until_the_engine_is_prepared() -> None:
    readiness = Readiness(Savers())
    waiting = asyncio.create_task(readiness.wait_prepared(20))
    await asyncio.sleep(0)
    assert not waiting.done()
    readiness.note_prepared()
    await waiting


async def test_a_request_does_not_wait_for_ever() -> None:
    with pytest.raises(StoreError, match="the worker is starting"):
        await Readiness(Savers()).wait_prepared(0.001)


async def test_an_engine_that_ends_is_draining_too() -> None:
    readiness = Readiness(Savers())
    readiness.note_ending()
    assert readiness.is_draining
    assert readiness.is_ending
