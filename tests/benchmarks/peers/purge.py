"""Purges with a usual client, 64 connections: ``purge.py aiohttp|httpx METHOD URL COUNT NAME``.

Prints purges per second; nothing is tracked, saved or tried again.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

import aiohttp
import httpx
import uvloop
from say import say

CONNECTIONS = 64
HEADERS = {"Host": "img.example.com"}


async def run(purge: Callable[[str], Awaitable[None]], base: str, count: int, name: str) -> float:
    """Purge *count* URLs, 64 at a time; return how many a second."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await purge(f"{base}/{name}/{number}.jpg")

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    return count / (time.perf_counter() - began)


async def with_aiohttp(method: str, base: str, count: int, name: str) -> float:
    """Measure aiohttp's client."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:

        async def purge(url: str) -> None:
            async with session.request(method, url, headers=HEADERS) as response:
                await response.read()
                assert response.status in {200, 404, 412}, response.status

        return await run(purge, base, count, name)


async def with_httpx(method: str, base: str, count: int, name: str) -> float:
    """Measure httpx."""
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    async with httpx.AsyncClient(limits=limits) as client:

        async def purge(url: str) -> None:
            response = await client.request(method, url, headers=HEADERS)
            assert response.status_code in {200, 404, 412}, response.status_code

        return await run(purge, base, count, name)


if __name__ == "__main__":
    kind, method, base, count, name = sys.argv[1:]
    measure = {"aiohttp": with_aiohttp, "httpx": with_httpx}[kind]
    say(uvloop.run(measure(method, base, int(count), name)))
