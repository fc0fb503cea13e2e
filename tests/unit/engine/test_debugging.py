"""What looks into a running engine are made of."""

import asyncio
import gc
import inspect
import json
from typing import Any

from engine.cli import profile_formats
from engine.debugging import coroutines, heap
from engine.debugging.collector import Pauses, pass_of, watching
from engine.debugging.masking import escaped, head_lines
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


def test_of_two_looks_what_grew_most_comes_first() -> None:
    before, after = heap.Walk(), heap.Walk()
    before.counts.update({str: 10, bytes: 5})
    before.sizes.update({str: 1000, bytes: 500})
    after.counts.update({str: 11, bytes: 9, heap.Walk: 1})
    after.sizes.update({str: 1010, bytes: 900, heap.Walk: 56})
    rows = heap.types_of(after, before, 2)
    assert [(row.type, row.count_grown, row.bytes_grown) for row in rows] == [
        ("bytes", 4, 400),
        ("engine.debugging.heap.Walk", 1, 56),
    ]
    assert [row.type for row in heap.types_of(after, None, 1)] == ["str"]


def _profile(*stacks: tuple[str, str, int, list[str]]) -> dict[str, Any]:
    rows = [{"thread": t, "state": s, "count": c, "frames": f} for t, s, c, f in stacks]
    return {"workers": [{"worker": "0.1", "seconds": 2.0, "samples": 200, "stacks": rows}], "troubles": []}


PROFILE = _profile(
    ("loop", "works", 30, ["run (a.py:1)", "send; it (b.py:2)"]),
    ("loop", "works", 10, ["run (a.py:1)"]),
    ("loop", "selects", 160, ["run (a.py:1)"]),
    ("saver", "waits", 200, ["get (c.py:3)"]),
)


def test_collapsed_stacks_are_a_line_each_of_what_works() -> None:
    assert profile_formats.collapsed(PROFILE).splitlines() == [
        "worker 0.1;loop;run (a.py:1);send, it (b.py:2) 30",
        "worker 0.1;loop;run (a.py:1) 10",
    ]


def test_speedscope_has_a_profile_for_each_thread_with_what_it_waits_for() -> None:
    document = json.loads(profile_formats.speedscope(PROFILE))
    loop, saver = document["profiles"]
    names = [frame["name"] for frame in document["shared"]["frames"]]
    stacks = [[names[number] for number in sample] for sample in loop["samples"]]
    assert stacks == [["run (a.py:1)", "send; it (b.py:2)"], ["run (a.py:1)"], ["run (a.py:1)", "[selects]"]]
    assert (loop["weights"], loop["endValue"], loop["unit"]) == ([0.3, 0.1, 1.6], 2.0, "seconds")
    assert saver["endValue"] == 2.0


def test_the_text_ranks_functions_by_what_they_did_themselves() -> None:
    *_, first, second = profile_formats.text(PROFILE).splitlines()
    assert first.split() == ["75.0", "%", "75.0", "%", "send;", "it", "(b.py:2)"]
    assert second.split() == ["25.0", "%", "100.0", "%", "run", "(a.py:1)"]


def test_values_that_may_let_somebody_in_are_not_shown() -> None:
    head = (
        b"PURGE http://u:s1@h/a?b=1&access_token=s2&x=2 HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer s3\r\n"
        b"X-Purge-Pass:  s4 \r\nCookie: s5\r\nXkey: news\r\nPurgeline-Cache: varnish a\x1b[2J\r\n\r\n"
    )
    lines = head_lines(head)
    assert lines == [
        "PURGE http://h/a?b=1&access_token=-&x=2 HTTP/1.1",
        "Host: h",
        "Authorization: (9 bytes, not shown)",
        "X-Purge-Pass: (2 bytes, not shown)",
        "Cookie: (2 bytes, not shown)",
        "Xkey: news",
        "Purgeline-Cache: varnish a\\x1b[2J",
    ]


def test_what_is_very_long_is_cut() -> None:
    assert escaped(b"x" * 500) == "x" * 400 + " (100 bytes more)"
    lines = head_lines(b"HTTP/1.1 200 OK\r\n" + b"Age: 1\r\n" * 100 + b"\r\n")
    assert (len(lines), lines[-1]) == (62, "(40 fields more)")
