"""Long lists worked through on the loop, with turns for everything else in between."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

_T = TypeVar("_T")
AT_ONCE: Final = 200
"""Nodes or leaves that are made ready to be shown in one turn: 20 to 50 µs each, interpreted."""


async def slices(items: Sequence[_T], count: int = AT_ONCE) -> AsyncIterator[Sequence[_T]]:
    """Yield *items*, *count* at a time, each in a turn of the loop of its own."""
    for start in range(0, len(items), count):
        if start:
            await asyncio.sleep(0)
        yield items[start : start + count]
