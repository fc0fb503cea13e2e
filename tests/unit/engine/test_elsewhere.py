"""Prefetches of other processes: purges here wait for them as for own ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.nodes.board import URL_BYTES_MAX
from engine.nodes.elsewhere import Elsewhere
from engine.nodes.underway import link
from engine.tasks.words import Operation
from tests.fakes.shares import items_of
from tests.unit.engine.test_beside import URL, Bench
from tests.unit.engine.test_board import Processes
from tests.unit.engine.test_underway import prefetch

if TYPE_CHECKING:
    from pathlib import Path

    from engine.nodes.board import Board

BARE = "a.com/1"
SENT_AGAIN_S = 1.0


class Worker:
    """Two nodes of one worker, an edge with its parent, and purges of the parent."""

    def __init__(self, processes: Processes, slot: int) -> None:
        self.bench = Bench(processes.clock)
        self.board: Board = processes.board(slot)
        nodes = {"parent": self.bench.place, "edge-1": processes.place("edge-1", "parent")}
        link(nodes)
        self.edge = nodes["edge-1"]
        self.elsewhere = Elsewhere(self.board, nodes, processes.clock, processes.clock.now)
        self.elsewhere.open(has_others=True)


def test_a_purge_waits_for_the_prefetch_of_another_worker_at_an_edge(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    one, two = Worker(processes, 0), Worker(processes, 1)
    fetch = prefetch(URL)
    one.edge.fetches.begin(fetch)
    purges = items_of(URL, "http://a.com/2")
    assert two.bench.acked(purges) == purges[1:]
    processes.clock.go(10)
    assert not two.bench.sent_again
    one.edge.fetches.answered(fetch)
    processes.clock.go(SENT_AGAIN_S)
    processes.clock.go(SENT_AGAIN_S)
    assert two.bench.sent_again == purges[:1]
    assert two.bench.acked(purges[:1]) == purges[:1]
    assert not two.bench.place.underway.fetches


def test_one_that_began_and_ended_while_the_purge_was_on_the_wire_counts(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    one, two = Worker(processes, 0), Worker(processes, 1)
    sent_at = two.bench.place.oldest_sent_at = processes.clock.s
    processes.clock.go(0.1)
    fetch = prefetch(URL)
    one.edge.fetches.begin(fetch)
    one.edge.fetches.answered(fetch)
    processes.clock.go(0.1)
    purges = items_of(URL)
    assert two.bench.beside.counted(purges, sent_at) == []
    processes.clock.go(SENT_AGAIN_S)
    assert two.bench.sent_again == purges


def test_a_worker_that_was_killed_leaves_what_it_had_under_way(tmp_path: Path) -> None:
    """To others as before; the worker after it keeps it until it surely has ended."""
    processes = Processes(tmp_path)
    one, two = Worker(processes, 0), Worker(processes, 1)
    one.edge.fetches.begin(prefetch(URL))
    one.board.close()  # its lock goes with it
    assert two.bench.acked(items_of(URL)) == []
    after = Worker(processes, 0)
    assert after.bench.acked(items_of(URL)) == []
    processes.clock.go(58)
    assert not two.bench.sent_again + after.bench.sent_again
    for _ in range(5):
        processes.clock.go(SENT_AGAIN_S)
    assert len(two.bench.sent_again) == len(after.bench.sent_again) == 1


def test_a_task_that_is_begun_again_does_not_wait_for_its_own_prefetch(tmp_path: Path) -> None:
    """That began when its purge was acked. Those of other tasks are waited for."""
    processes = Processes(tmp_path)
    before = Worker(processes, 0)
    before.edge.fetches.begin(prefetch(URL, task_id="t"))
    before.board.close()
    after = Worker(processes, 0)
    own, others = items_of(URL), items_of(URL)
    others[0][0].task.id = "another"
    assert after.bench.acked(own) == own
    assert after.bench.acked(others) == []


def test_one_of_a_process_that_never_came_back_expires(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    one, two = Worker(processes, 0), Worker(processes, 1)
    one.edge.fetches.begin(prefetch(URL))
    one.board.close()
    assert two.bench.acked(items_of(URL)) == []
    processes.clock.go(59)
    assert not two.bench.sent_again
    for _ in range(3):
        processes.clock.go(SENT_AGAIN_S)
    assert len(two.bench.sent_again) == 1


def test_what_another_process_could_not_write_down_counts_as_anything(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    one, two = Worker(processes, 0), Worker(processes, 1)
    one.board.begin("edge-1", "x" * (URL_BYTES_MAX + 1), (), expires_at=processes.clock.s + 60)
    purges = items_of(URL)
    assert two.bench.acked(purges) == []
    assert two.edge.underway.beside(Operation.PURGE_HOST, "other.com", 0.0)
    processes.clock.go(61)
    processes.clock.go(SENT_AGAIN_S)
    processes.clock.go(SENT_AGAIN_S)
    assert two.bench.sent_again == purges


def test_nodes_that_are_not_configured_here_do_not_matter(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    one, two = Worker(processes, 0), Worker(processes, 1)
    one.board.begin("another", BARE, (), expires_at=processes.clock.s + 60)
    purges = items_of(URL)
    assert two.bench.acked(purges) == purges


def test_what_is_taken_over_is_waited_for_as_before(tmp_path: Path) -> None:
    """A hot reload: the new worker has seen it as another's, and goes on with it when that has gone."""
    processes = Processes(tmp_path)
    old, new = Worker(processes, 0), Worker(processes, 0)
    old.edge.fetches.begin(prefetch(URL))
    purges = items_of(URL)
    assert new.bench.acked(purges) == []
    old.board.close()
    new.elsewhere.take_left()
    processes.clock.go(SENT_AGAIN_S)
    assert new.bench.sent_again == purges
    assert new.bench.acked(purges) == []
    new.bench.sent_again.clear()
    processes.clock.go(60)
    processes.clock.go(SENT_AGAIN_S)
    assert new.bench.sent_again == purges
    assert new.bench.acked(purges) == purges
