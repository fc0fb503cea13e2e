"""What looks into a running engine are made of."""

import asyncio
import gc
import inspect

from engine.debugging import coroutines
from engine.debugging.collector import Pauses, pass_of, watching
from engine.debugging.spread import Spread
from engine.debugging.stacks import chain_of, stack_of


def test_percentiles_are_within_a_step_of_what_was_counted() -> None:
    spread = Spread()
    for number in range(1, 1001):
        spread.add(number / 1000)
    shown = spread.document()
    assert (shown.count, shown.max_ms, shown.sum_ms) == (1000, 1000, 500_500)
    assert 500 <= shown.p50_ms <= 500 * 1.13
    assert 900 <= shown.p90_ms <= 900 * 1.13
    assert 990 <= shown.p99_ms <= 1000
    assert Spread().document().p99_ms == 0


def test_a_stack_names_function_file_and_line_the_outermost_first() -> None:
    def inner() -> list[str]:
        return stack_of(inspect.currentframe())

    *_, outer, last = inner()
    name = "test_a_stack_names_function_file_and_line_the_outermost_first"
    assert outer.startswith(f"{name} (tests/unit/engine/test_debugging.py:")
    assert last.startswith(f"{name}.<locals>.inner (tests/unit/engine/test_debugging.py:")


async def _inner(gate: asyncio.Event) -> None:
    await gate.wait()


async def _outer(gate: asyncio.Event) -> None:
    await _inner(gate)


def test_tasks_at_one_place_are_together_with_what_they_wait_for() -> None:
    async def run() -> None:
        gate = asyncio.Event()
        waiting = [asyncio.create_task(_outer(gate)) for _ in range(3)]
        waiting.append(asyncio.create_task(asyncio.sleep(10), name="pauses"))
        await asyncio.sleep(0)
        count, groups = await coroutines.look()
        for task in waiting:
            task.cancel()
        assert count == 4
        first, second = groups
        assert (first.count, first.waits_for) == (3, "an event")
        assert [place.split(" ")[0] for place in first.stack] == ["_outer", "_inner", "Event.wait"]
        assert (second.count, second.waits_for, second.names) == (1, "a pause", ["pauses"])

    asyncio.run(run())


def test_a_chain_ends_where_nothing_tells_more() -> None:
    async def leaf() -> None:
        """Wait for nothing."""

    coroutine = leaf()
    assert len(chain_of(coroutine)) == 1
    coroutine.close()
    assert chain_of(coroutine) == []
    assert chain_of(3) == []


def test_each_pass_of_the_garbage_collector_is_told_until_nobody_watches() -> None:
    pauses = Pauses()
    lines = []
    before = list(gc.callbacks)
    with (
        watching(pauses),
        watching(lambda number, pause_s, info: lines.append(pass_of("0.1", number, pause_s, info))),
    ):
        cycle: list[object] = []
        cycle.append(cycle)
        del cycle
        gc.collect(1)
    gc.collect(1)
    assert gc.callbacks == before
    assert [generation.pauses.count for generation in pauses.generations()] == [0, 1, 0]
    [line] = lines
    assert (line.generation, line.worker, line.uncollectable) == (1, "0.1", 0)
    assert line.collected >= 1
    assert line.rss_bytes > 1_000_000
