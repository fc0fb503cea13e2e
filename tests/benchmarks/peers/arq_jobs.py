"""Purges as jobs of arq: ``arq_jobs.py REDIS_PORT JOBS URLS PARENT_URL EDGE_URL …``.

Prints purges at nodes per second, from the first job enqueued to the last one done; the worker is this
process, and takes 64 jobs at a time.
"""

import asyncio
import sys
import time
from typing import Any

import node_purges
import uvloop
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker, func
from say import say


async def purge(ctx: dict[str, Any], number: int, urls: int) -> None:
    """Purge URLs on every node."""
    await node_purges.purge(ctx["session"], ctx["nodes"], f"arq/{number}", urls)


async def main(port: int, count: int, urls: int, nodes: list[str]) -> float:
    """Enqueue and work *count* jobs of *urls* URLs each."""
    settings = RedisSettings(port=port)
    pool = await create_pool(settings)
    async with node_purges.session() as session:
        began = time.perf_counter()
        for first in range(0, count, node_purges.JOBS):
            numbers = range(first, min(count, first + node_purges.JOBS))
            await asyncio.gather(*(pool.enqueue_job("purge", number, urls) for number in numbers))
        worker = Worker(
            functions=[func(purge, keep_result=0)],
            redis_settings=settings,
            burst=True,
            max_jobs=node_purges.JOBS,
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
