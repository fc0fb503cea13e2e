"""Futures whose waiter may have gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


def settle_once(future: asyncio.Future[T], result: T) -> None:
    """Set a future's result, unless its waiter was cancelled or the future has one already."""
    if not future.done():
        future.set_result(result)
