"""A purge as a job of arq: ``arq_jobs.py REDIS_PORT COUNT PARENT_URL EDGE_URL …``.

A job purges one URL, on the parent first, then on the edges. Prints purges at nodes per second, from the
first job enqueued to the last one done; the worker is this process, and takes 64 jobs at a time.
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
HEADERS = {"Host": "img.example.com"}


async def purge(ctx: dict[str, Any], path: str) -> None:
    """Purge one URL on every node, the parent first."""
    session = ctx["session"]

    async def one(node: str) -> None:
        async with session.request("PURGE", node + path, headers=HEADERS) as response:
            await response.read()
            response.raise_for_status()

    await one(ctx["nodes"][0])
    await asyncio.gather(*(one(node) for node in ctx["nodes"][1:]))


async def main(port: int, count: int, nodes: list[str]) -> float:
    """Enqueue and work *count* jobs."""
    settings = RedisSettings(port=port)
    pool = await create_pool(settings)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=JOBS * 3)) as session:
        began = time.perf_counter()
        for number in range(count):
            await pool.enqueue_job("purge", f"/arq/{number}.jpg")
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
    return count * len(nodes) / took_s


if __name__ == "__main__":
    say(uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])))
