"""Work of the loop that nobody awaits."""

import asyncio

from engine.base.background import Background, FewAtOnce
from tests.waiting import until


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


async def test_what_comes_in_the_turn_in_which_the_last_one_ends_is_worked_on() -> None:
    """The loop calls back on an ended task one turn later: until then it seemed to be at work."""
    to_do: list[int] = []
    done: list[int] = []

    async def work() -> None:
        while to_do:
            done.append(to_do.pop())
            await asyncio.sleep(0)
        loop.call_soon(come)

    def come() -> None:
        if len(done) < 5:
            to_do.append(len(done))
            few.wake()

    loop = asyncio.get_running_loop()
    few = FewAtOnce(work, 1)
    come()
    await until(lambda: len(done) == 5, "all of it being done")


async def test_no_more_work_at_a_time_than_may_be_and_none_after_the_end() -> None:
    at_work = most = 0

    async def work() -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        try:
            await asyncio.Event().wait()
        finally:
            at_work -= 1

    few = FewAtOnce(work, 2)
    for _ in range(5):
        few.wake()
    assert len(few) == 2
    await until(lambda: at_work == 2, "both being at work")
    few.cancel()
    await until(lambda: not len(few), "none being at work")
    assert (most, at_work) == (2, 0)
