"""One chunk of a delay queue: which requests its rows are, and which rows each answer settles."""

from __future__ import annotations

import asyncio
import time
from math import inf
from typing import TYPE_CHECKING, Any

import pytest

from engine.delivery.chunk import Chunk
from engine.delivery.last_look import LastLook
from engine.delivery.sent import Sent
from engine.nodes.holds import REFUSALS_BEFORE_HOLD, Holds
from engine.nodes.postponed import Postponed
from engine.tasks.lower import Lower
from engine.tasks.plan import Skipped
from engine.tasks.records import ParkedRow
from engine.tasks.words import CANCELLED, QUEUED, SENT, Operation
from tests.fakes.shares import NotingNode

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

PURGE, PREFIX = Operation.PURGE_URL, Operation.PURGE_PREFIX


def row(target: str, seq: float, operation: Operation = PURGE, task_id: str = "t") -> ParkedRow:
    return ParkedRow(f"{task_id}:{seq}", seq, "edge-1", int(operation), target, task_id, "", seq)


class Queue:
    """The rows of one node, as a store reads them."""

    def __init__(self, *rows: ParkedRow) -> None:
        self.rows = list(rows)

    async def read(self, function: Any, *args: object) -> Any:
        return function(*args)

    def wide_parked(self, node: str) -> list[ParkedRow]:
        return [row for row in reversed(self.rows) if row.operation == PREFIX]

    def parked_like(self, node: str, targets: Sequence[tuple[int, str]], among: object) -> list[ParkedRow]:
        return [row for row in self.rows if (row.operation, row.target) in targets]

    def parked_below(self, node: str, start: str, seq: float, among: object) -> list[ParkedRow]:
        return [
            row
            for row in self.rows
            if row.operation == PURGE and row.seq < seq and row.target.partition("://")[2].startswith(start)
        ]


class Handed:
    """What an engine that is a node was handed."""

    def __init__(self, known: dict[str, Lower]) -> None:
        self._known = known

    async def known(self, _store: object, _node: str, task_ids: Collection[str]) -> dict[str, Lower]:
        return {name: lower for name, lower in self._known.items() if name in task_ids}


def none_postponed() -> Postponed:
    return Postponed(lambda: 0.0, 3600)


async def begin(
    queue: Any,
    *,
    sent: Sent | None = None,
    ttl_s: float = 0,
    postponed: Postponed | None = None,
    known: dict[str, Lower] | None = None,
) -> tuple[Chunk, NotingNode, Any]:
    """Deliver all of a queue; return the chunk, what was sent, and what ends with the last answer."""
    node = NotingNode()
    chunk = Chunk(
        node,
        queue,
        queue,
        postponed=none_postponed() if postponed is None else postponed,
        sent=sent,
        now=time.time(),
        ttl_s=ttl_s,
        handed=None if known is None else Handed(known),  # type: ignore[arg-type]
    )
    running = asyncio.ensure_future(chunk.run(list(queue.rows)))
    await asyncio.sleep(0)
    return chunk, node, running


def requests_of(node: NotingNode) -> list[str]:
    return [target for share, _ in node.backlog for target in share.task.targets]


async def test_rows_for_the_same_target_are_one_request_and_all_settled_by_it() -> None:
    queue = Queue(row("http://a.com/", 1), row("http://b.com/", 2), row("http://a.com/", 3, task_id="u"))
    chunk, node, running = await begin(queue)
    [(share, indexes)] = node.backlog
    assert (share.task.targets, indexes) == (["http://a.com/", "http://b.com/"], [0, 1])
    chunk.acked(share, [0])
    assert [done.seq for done in chunk.done_rows] == [1, 3]
    assert not running.done()
    chunk.failed(share, [1], "answered 400")
    await running
    assert chunk.failed_rows == [(queue.rows[1], "answered 400")]


async def test_an_acked_wide_purge_settles_the_older_rows_below_it() -> None:
    older, wide, younger = (
        row("http://a.com/img/1", 1),
        row("http://a.com/img/", 2, PREFIX),
        row("http://a.com/img/1", 3),
    )
    chunk, node, running = await begin(Queue(row("http://a.com/img/2", 0.5), older, wide, younger))
    assert sorted(requests_of(node)) == ["http://a.com/img/", "http://a.com/img/1"]
    for share, indexes in node.backlog:
        chunk.acked(share, indexes)
    await running
    assert {done.seq for done in chunk.done_rows} == {0.5, 1, 2, 3}


async def test_a_node_that_goes_down_again_cuts_the_chunk_and_keeps_its_rows() -> None:
    chunk, node, running = await begin(Queue(row("http://a.com/", 1), row("http://b.com/", 2)))
    [(share, _)] = node.backlog
    chunk.acked(share, [0])
    chunk.parked(share, [1])
    await running
    assert chunk.is_cut
    assert [done.seq for done in chunk.done_rows] == [1]


async def test_a_postponed_request_keeps_its_rows_and_the_chunk_ends_without_it() -> None:
    chunk, node, running = await begin(Queue(row("http://a.com/", 1), row("http://b.com/", 2)))
    [(share, _)] = node.backlog
    chunk.acked(share, [0])
    chunk.postponed(share, [1])
    await running
    assert not chunk.is_cut
    assert [done.seq for done in chunk.done_rows] == [1]
    assert chunk.failed_rows == []


async def test_a_postponed_wide_purge_supersedes_nothing() -> None:
    postponed = none_postponed()
    postponed.postpone(PREFIX, "http://a.com/img/")
    url, wide = row("http://a.com/img/1", 1), row("http://a.com/img/", 2, PREFIX)
    queue = Queue(url, wide)
    node = NotingNode()
    chunk = Chunk(node, queue, queue, postponed=postponed, sent=None, now=time.time(), ttl_s=0)  # type: ignore[arg-type]
    running = asyncio.ensure_future(chunk.run([url]))
    await asyncio.sleep(0)
    assert requests_of(node) == ["http://a.com/img/1"]
    running.cancel()


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("end", ["refused", "held", "failed"])
async def test_a_wide_purge_that_is_not_acked_settles_nothing_below_it(end: str, *, is_shared: bool) -> None:
    """The rows below it stay, and are sent by themselves next, whatever the clocks say."""
    holds = Holds(lambda: 0.0)
    postponed = Postponed(lambda: 0.0, 3600, holds)
    url, wide = row("http://a.com/img/1", 1), row("http://a.com/img/", 2, PREFIX)
    sent = Sent() if is_shared else None
    chunk, node, running = await begin(Queue(url, wide), sent=sent, postponed=postponed)
    [(share, indexes)] = node.backlog
    assert share.task.targets == ["http://a.com/img/"]
    if end == "failed":
        chunk.failed(share, indexes, "answered 400")
    else:
        for _ in range(1 if end == "refused" else REFUSALS_BEFORE_HOLD):
            holds.refused(PREFIX, wide.target, "answered 403")
        chunk.postponed(share, indexes)
    await running
    assert chunk.done_rows == []
    assert [failed for failed, _ in chunk.failed_rows] == [wide] * (end == "failed")
    left = Queue(url) if end == "failed" else Queue(url, wide)
    chunk, node, running = await begin(left, sent=sent, postponed=postponed)
    assert url.target in requests_of(node)
    running.cancel()


async def test_an_acked_request_is_not_postponed_any_more() -> None:
    clock = [0.0]
    postponed = Postponed(lambda: clock[0], 3600)
    postponed.postpone(PURGE, "http://a.com/")
    clock[0] = 10.0
    chunk, node, running = await begin(Queue(row("http://a.com/", 1)), postponed=postponed)
    [(share, _)] = node.backlog
    chunk.acked(share, [0])
    await running
    assert not postponed


async def test_on_a_shared_store_what_was_sent_for_others_is_not_sent() -> None:
    sent = Sent()
    sent.begin(lambda row: True)
    sent.note((PURGE, "http://a.com/"), [])
    chunk, node, running = await begin(Queue(row("http://a.com/", 9e9)), sent=sent)
    await running
    assert requests_of(node) == []
    assert [done.target for done in chunk.done_rows] == ["http://a.com/"]


@pytest.mark.parametrize("is_shared", [False, True])
async def test_what_waited_too_long_fails_unsent_whatever_else_is_sent(*, is_shared: bool) -> None:
    """Also when a younger row for the same, or a prefix above it, is acked in this chunk or was before."""
    now = time.time()
    old, old_wide = row("http://a.com/img/1", now - 4000), row("http://b.com/", now - 3999, PREFIX)
    same, wide = row("http://a.com/img/1", now - 5, task_id="u"), row("http://a.com/img/", now - 4, PREFIX)
    other = row("http://b.com/x", now - 4500)
    sent = Sent()
    sent.begin(lambda row: row.seq < now - 60)
    sent.note((PURGE, old.target), [])
    chunk, node, running = await begin(
        Queue(other, old, old_wide, same, wide), sent=sent if is_shared else None, ttl_s=3600
    )
    assert "http://b.com/" not in requests_of(node)
    for share, indexes in node.backlog:
        chunk.acked(share, indexes)
    await running
    assert [failed for failed, _ in chunk.failed_rows] == [other, old, old_wide]
    assert {done.seq for done in chunk.done_rows} == {same.seq, wide.seq}
    assert chunk.failed_rows[1][1] == "not sent: it waited 4000 s, longer than delay_ttl_s (3600)"


async def test_a_chunk_whose_rows_were_cancelled_meanwhile_is_over_at_once() -> None:
    queue = Queue(row("http://a.com/", 1))
    chunk = Chunk(NotingNode(), queue, queue, postponed=none_postponed(), sent=None, now=0.0, ttl_s=0)  # type: ignore[arg-type]
    rows = list(queue.rows)
    queue.rows.clear()
    await chunk.run(rows)
    assert (chunk.done_rows, chunk.is_cut) == ([], False)


async def test_what_only_a_cancelled_task_waits_for_is_not_sent_any_more() -> None:
    queue = Queue(row("http://a.com/", 1), row("http://b.com/", 2), row("http://b.com/", 3, task_id="u"))
    chunk, node, running = await begin(queue)
    [(share, indexes)] = node.backlog
    share.states[:] = bytes([QUEUED] * len(indexes))
    chunk.forget("t")
    assert node.forgotten == [(share, [0])]
    assert list(share.states) == [CANCELLED, QUEUED]
    chunk.acked(share, [1])
    await running
    assert {done.seq for done in chunk.done_rows} == {2, 3}


async def test_a_chunk_of_which_all_is_cancelled_is_over() -> None:
    chunk, node, running = await begin(Queue(row("http://a.com/", 1), row("http://b.com/", 2, task_id="u")))
    [(share, _)] = node.backlog
    share.states[:] = bytes([QUEUED, QUEUED])
    chunk.forget("u")
    chunk.forget("t")
    await running
    assert chunk.done_rows == []


async def test_what_is_on_the_wire_is_answered_before_a_cancelled_chunk_is_over() -> None:
    chunk, node, running = await begin(Queue(row("http://a.com/", 1)))
    [(share, _)] = node.backlog
    share.states[:] = bytes([SENT])
    chunk.forget("t")
    assert not running.done()
    assert list(share.states) == [CANCELLED]  # without an answer it is not sent again
    chunk.acked(share, [0])
    await running


async def test_rows_that_are_cancelled_while_the_chunk_reads_are_not_sent() -> None:
    queue: Any = Queue(row("http://a.com/", 1))
    chunk = Chunk(NotingNode(), queue, queue, postponed=none_postponed(), sent=None, now=0.0, ttl_s=0)
    chunk.forget("t")
    await chunk.run(list(queue.rows))
    assert chunk.done_rows == []


async def test_of_a_request_beside_a_prefetch_the_rows_of_an_earlier_ack_are_settled() -> None:
    """A row that came later has to wait: the prefetch began before its purge was first acked."""
    queue = Queue(row("http://a.com/", 1))
    postponed = none_postponed()
    chunk, node, running = await begin(queue, postponed=postponed)
    [(share, _)] = node.backlog
    assert chunk.acked_beside(share, 0, began_at=9.0, now=10.0) == 10.0
    chunk.postponed(share, [0])
    await running
    assert chunk.done_rows == []
    queue.rows.append(row("http://a.com/", 2, task_id="later"))
    chunk, node, running = await begin(queue, postponed=postponed)
    [(share, _)] = node.backlog
    assert chunk.acked_beside(share, 0, began_at=11.0, now=12.0) == 12.0
    chunk.postponed(share, [0])
    await running
    assert chunk.done_rows == queue.rows[:1]
    del queue.rows[0]
    chunk, node, running = await begin(queue, postponed=postponed)
    [(share, _)] = node.backlog
    assert chunk.acked_beside(share, 0, began_at=13.0, now=14.0) == -inf
    chunk.acked(share, [0])
    await running
    assert chunk.done_rows == queue.rows


async def test_rows_below_a_prefix_that_is_acked_beside_a_prefetch_wait_with_it() -> None:
    queue = Queue(row("http://a.com/i/1", 1), row("http://a.com/i/", 2, PREFIX))
    chunk, node, running = await begin(queue)
    [(share, _)] = node.backlog
    assert chunk.acked_beside(share, 0, began_at=9.0, now=10.0) == 10.0
    chunk.postponed(share, [0])
    await running
    assert chunk.done_rows == []


async def names_of(*rows: ParkedRow) -> dict[str, list[str]]:
    """Return the names of the tasks by which rows of an engine are asked for: name → targets."""
    _, node, running = await begin(Queue(*rows), known={})
    running.cancel()
    return {share.task.id: list(share.task.targets) for share, _ in node.backlog}


async def test_an_engine_is_asked_for_the_task_of_rows_that_are_all_its() -> None:
    assert await names_of(
        row("http://a.com/", 1, task_id="a"),
        row("http://b.com/", 2, task_id="a"),
        row("http://c.com/", 3, task_id="b"),
    ) == {"delayed:a": ["http://a.com/", "http://b.com/"], "delayed:b": ["http://c.com/"]}


async def test_rows_of_several_tasks_are_none_of_theirs_at_an_engine() -> None:
    """The one that was parked last may be the one that the engine did before the others were accepted."""
    rows = [row("http://a.com/", 1, task_id="b"), row("http://a.com/", 2, task_id="a")]
    [name] = await names_of(*rows)
    assert name.startswith("together:")
    assert list(await names_of(*rows)) == [name]  # the same again, should the engine go on with it
    more = await names_of(*rows, row("http://a.com/", 3, task_id="c"))
    later = await names_of(rows[0], row("http://a.com/", 4, task_id="a"))
    assert len({name, *more, *later}) == 3


async def test_rows_of_an_engine_supersede_and_cover_none_of_another_task() -> None:
    """The wide one may be of one leaf alone, or have been done before the others came."""
    sent = Sent()
    sent.begin(lambda _: True)
    queue = Queue(
        row("http://a.com/img/1", 1, task_id="all-leaves"),
        row("http://a.com/img/", 2, PREFIX, task_id="one-leaf"),
    )
    chunk, node, running = await begin(queue, sent=sent, known={})
    assert sorted(share.task.id for share, _ in node.backlog) == ["delayed:all-leaves", "delayed:one-leaf"]
    for share, indexes in node.backlog:
        if share.task.id == "delayed:one-leaf":
            chunk.acked(share, indexes)
    assert [done.task_id for done in chunk.done_rows] == ["one-leaf"]
    running.cancel()
    chunk, node, running = await begin(
        Queue(row("http://a.com/img/", 3, PREFIX, task_id="third")), sent=sent, known={}
    )
    assert requests_of(node) == ["http://a.com/img/"]
    running.cancel()


async def test_a_request_of_several_tasks_goes_on_when_one_of_them_is_cancelled() -> None:
    queue = Queue(row("http://a.com/", 1, task_id="a"), row("http://a.com/", 2, task_id="b"))
    chunk, node, running = await begin(queue, known={})
    [(share, _)] = node.backlog
    share.states[:] = bytes([SENT])
    chunk.forget("b")
    assert list(share.states) == [SENT]
    chunk.acked(share, [0])
    await running
    assert [done.task_id for done in chunk.done_rows] == ["a", "b"]


async def test_rows_of_an_engine_go_to_those_of_its_nodes_that_their_tasks_are_for() -> None:
    """Several tasks for the leaves of any of them; one that is for all, or is not known, for all."""
    known = {"a": Lower(("edge-7",), {"a": "1f"}), "b": Lower(("edge-9",)), "all": Lower()}
    rows = [
        row("http://a.com/1", 1, task_id="a"),
        row("http://a.com/2", 2, task_id="a"),
        row("http://a.com/2", 3, task_id="b"),
        row("http://a.com/3", 4, task_id="a"),
        row("http://a.com/3", 5, task_id="all"),
        row("http://a.com/4", 6, task_id="a"),
        row("http://a.com/4", 7, task_id="unknown"),
    ]
    _, node, running = await begin(Queue(*rows), known=known)
    sent = {}
    for share, _ in node.backlog:
        assert share.task.lower is not None
        sent[share.task.targets[0][-1]] = share.task.lower["edge-1"]
    running.cancel()
    assert {target: tuple(lower.nodes) for target, lower in sent.items()} == {
        "1": ("edge-7",),
        "2": ("edge-7", "edge-9"),
        "3": (),
        "4": (),
    }
    assert sent["1"].digests == {"a": "1f"}
    assert sent["2"].digests == {}


async def test_rows_of_tasks_for_layers_and_of_others_for_leaves_go_to_all() -> None:
    """A question with both would mean the leaves of these layers alone."""
    rows = [row("http://a.com/", 1, task_id="a"), row("http://a.com/", 2, task_id="b")]
    _, node, running = await begin(Queue(*rows), known={"a": Lower((":edge",)), "b": Lower(("edge-9",))})
    [(share, _)] = node.backlog
    running.cancel()
    assert share.task.lower == {"edge-1": Lower()}


async def test_what_an_engine_tells_of_rows_is_for_each_of_their_tasks() -> None:
    rows = [row("http://a.com/1", 1, task_id="a"), row("http://a.com/2", 2, task_id="b")]
    chunk, node, running = await begin(Queue(*rows), known={})
    for share, indexes in node.backlog:
        assert share.task.lower is not None
        lower = share.task.lower["edge-1"]
        if share.task.id.endswith("a"):
            lower.skipped = [Skipped("edge-1/squid", "no regex")]
            chunk.acked(share, indexes)
        else:
            lower.reason = "held below: edge-1/e: away"
            chunk.postponed(share, indexes)
    await running
    assert {task: (of.seq, told.reason, len(told.skipped)) for task, (of, told) in chunk.below.items()} == {
        "a": (1, "", 1),
        "b": (2, "held below: edge-1/e: away", 0),
    }
    assert [done.seq for done in chunk.done_rows] == [1]


async def test_an_engine_is_asked_for_each_task_of_rows_that_waited_too_long() -> None:
    rows = [
        row("http://a.com/1", 1, task_id="a"),
        row("http://a.com/1", 2, task_id="b"),
        row("http://a.com/2", 3, task_id="b"),
        row("http://a.com/3", 4, task_id="c"),
    ]
    node = NotingNode()
    look = LastLook(node, {"a": Lower(digests={"a": "1f"})})
    asked = asyncio.ensure_future(look.ask(rows))
    await asyncio.sleep(0)
    by_task = {share.task.id: share for share, _ in node.backlog}
    assert {name: share.task.targets for name, share in by_task.items()} == {
        "last:a": ["http://a.com/1"],
        "last:b": ["http://a.com/1", "http://a.com/2"],
        "last:c": ["http://a.com/3"],
    }
    look.acked(by_task["last:a"], [0])
    look.failed(by_task["last:b"], [0, 1], "eu has not done it")
    assert not asked.done()
    look.parked(by_task["last:c"], [0])  # the node went down: it stays
    await asked
    assert ([one.seq for one in look.done_rows], [one.seq for one in look.failed_rows]) == ([1], [2, 3])
