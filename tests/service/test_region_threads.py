"""The region map, read and written by several threads at once."""

from __future__ import annotations

import threading

from engine.tasks.region import RegionMap
from engine.tasks.task import Task


def task(name: str) -> Task:
    return Task.internal([], owner=None, task_id=name)


def test_threads_read_while_the_loop_writes() -> None:
    regions = RegionMap(8)
    over = threading.Event()
    problems: list[BaseException] = []

    def read() -> None:
        try:
            while not over.is_set():
                for made in regions.tasks():
                    assert regions.get(made.id) in {made, None}
                len(regions)
        except BaseException as exc:  # noqa: BLE001 - told by the test
            problems.append(exc)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(5000):
        regions.add(task(str(number)))
        if number >= 100:
            regions.remove(str(number - 100))
    over.set()
    for thread in threads:
        thread.join(30)
    assert problems == []
    assert len(regions) == 100


def test_of_threads_that_add_the_same_id_one_wins() -> None:
    regions = RegionMap(2)
    barrier = threading.Barrier(8)
    winners: list[Task] = []

    def add() -> None:
        mine = task("same")
        barrier.wait(30)
        winners.append(regions.add(mine))

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(winners) == 8
    assert len({id(winner) for winner in winners}) == 1
