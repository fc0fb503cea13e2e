"""Purges as jobs of SAQ: ``saq_jobs.py REDIS_PORT JOBS URLS PARENT_URL EDGE_URL …``.

Prints purges at nodes per second, from the first job enqueued to the last one done; the worker is this
process, and takes 64 jobs at a time.
"""

import asyncio
import sys
import time
from typing import Any

import node_purges
import uvloop
from saq import Queue, Worker
from say import say


async def main(port: int, count: int, urls: int, nodes: list[str]) -> float:
    """Enqueue and work *count* jobs of *urls* URLs each."""
    queue = Queue.from_url(f"redis://127.0.0.1:{port}")
    await queue.connect()
    done = 0
    is_over = asyncio.Event()

    async with node_purges.session() as session:

        async def purge(_ctx: Any, *, number: int, urls: int) -> None:
            await node_purges.purge(session, nodes, f"saq/{number}", urls)

        async def count_one(_ctx: Any) -> None:
            nonlocal done
            done += 1
            if done == count:
                is_over.set()

        began = time.perf_counter()
        for first in range(0, count, node_purges.JOBS):
            numbers = range(first, min(count, first + node_purges.JOBS))
            await asyncio.gather(
                *(queue.enqueue("purge", number=number, urls=urls, ttl=-1) for number in numbers)
            )
        worker = Worker(
            queue,
            [("purge", purge)],
            concurrency=node_purges.JOBS,
            after_process=count_one,
            dequeue_timeout=1,
        )
        working = asyncio.create_task(worker.start())
        await is_over.wait()
        took_s = time.perf_counter() - began
        await worker.stop()
        await working
    assert await queue.count("incomplete") == 0
    await queue.disconnect()
    return count * urls * len(nodes) / took_s


if __name__ == "__main__":
    say(uvloop.run(main(*map(int, sys.argv[1:4]), sys.argv[4:])))
