"""Futures whose waiter may have gone."""

from __future__ import annotations

import asyncio

from engine.base.futures import settle_once


async def test_the_first_result_stays() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    settle_once(future, 1)
    settle_once(future, 2)
    assert await future == 1


async def test_a_waiter_that_was_cancelled_is_left_alone() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    future.cancel()
    settle_once(future, 1)
    assert future.cancelled()
