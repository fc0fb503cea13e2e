"""Work of the loop that nobody awaits."""

import asyncio

from engine.base.background import Background


def test_work_is_kept_until_it_ends() -> None:
    async def scenario() -> None:
        background, may_end = Background(), asyncio.Event()

        async def work() -> None:
            await may_end.wait()

        task = background.start(work())
        assert len(background) == 1
        may_end.set()
        await task
        await asyncio.sleep(0)
        assert len(background) == 0

    asyncio.run(scenario())


async def test_work_that_is_cancelled_ends() -> None:
    background = Background()
    tasks = [background.start(asyncio.sleep(60)) for _ in range(2)]
    background.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)
    assert len(background) == 0
