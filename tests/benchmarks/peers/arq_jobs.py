"""Purges as jobs of arq: ``arq_jobs.py REDIS_PORT JOBS URLS PARENT_URL EDGE_URL …``.

A job purges some URLs, each on the parent first, then on the edges. Prints purges at nodes per second, from
the first job enqueued to the last one done; the worker is this process, and takes 64 jobs at a time.
"""

import asyncio
import sys
import time
from typing import Any

import aiohttp
import uvloop
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker, func
from say import say

JOBS = 64
CONNECTIONS = 192  #: 64 a node
HEADERS = {"Host": "img.example.com"}


async def purge(ctx: dict[str, Any], name: str, urls: int) -> None:
    """Purge URLs on every node, the parent first."""
    session = ctx["session"]
    await asyncio.gather(*(purge_one(session, ctx["nodes"], f"/arq/{name}/{url}.jpg") for url in range(urls)))


async def purge_one(session: aiohttp.ClientSession, nodes: list[str], path: str) -> None:
    """Purge one URL."""

    async def one(node: str) -> None:
        async with session.request("PURGE", node + path, headers=HEADERS) as response:
            await response.read()
            response.raise_for_status()

    await one(nodes[0])
    await asyncio.gather(*(one(node) for node in nodes[1:]))


async def main(port: int, count: int, urls: int, nodes: list[str]) -> float:
    """Enqueue and work *count* jobs of *urls* URLs each."""
    settings = RedisSettings(port=port)
    pool = await create_pool(settings)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:
        began = time.perf_counter()
        for first in range(0, count, JOBS):
            numbers = range(first, min(count, first + JOBS))
            await asyncio.gather(*(pool.enqueue_job("purge", str(number), urls) for number in numbers))
        worker = Worker(
            functions=[func(purge, keep_result=0)],
            redis_settings=settings,
            burst=True,
            max_jobs=JOBS,
            poll_delay=0.01,
            handle_signals=False,
            ctx={"session": session, "nodes": nodes},
        )
        await worker.async_run()
        took_s = time.perf_counter() - began
        assert (worker.jobs_complete, worker.jobs_failed) == (count, 0)
        await worker.close()
    await pool.aclose()
    return count * urls * len(nodes) / took_s


if __name__ == "__main__":
    say(uvloop.run(main(*map(int, sys.argv[1:4]), sys.argv[4:])))
