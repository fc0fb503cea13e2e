"""Fetches an object again and again with aiohttp and lets its bytes go: ``drain.py URL COUNT AT_ONCE``.

Prints bytes per second.
"""

import asyncio
import sys
import time

import aiohttp
import uvloop
from say import say

CHUNK_BYTES = 65536


async def main(url: str, count: int, at_once: int) -> float:
    """Fetch *count* times, *at_once* together."""
    numbers = iter(range(count))
    total = 0

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal total
        for _ in numbers:
            async with session.get(url) as response:
                assert response.status == 200
                async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                    total += len(chunk)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=at_once)) as session:
        began = time.perf_counter()
        await asyncio.gather(*(work(session) for _ in range(at_once)))
        return total / (time.perf_counter() - began)


if __name__ == "__main__":
    say(uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
