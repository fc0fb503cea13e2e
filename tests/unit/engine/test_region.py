"""The region map: one task an id, and memory given back."""

from __future__ import annotations

import sys
from zlib import crc32

from engine.tasks.region import Region, RegionMap
from engine.tasks.task import Task


def task(name: str) -> Task:
    return Task.internal([], owner=None, task_id=name)


def test_the_first_task_of_an_id_stays() -> None:
    regions = RegionMap(4)
    first, second = task("a"), task("a")
    assert regions.add(first) is first
    assert regions.add(second) is first
    assert regions.get("a") is first
    assert len(regions) == 1
    regions.remove("a")
    assert regions.get("a") is None
    regions.remove("a")
    assert len(regions) == 0
    assert regions.add(second) is second


def test_a_tasks_region_is_the_checksum_of_its_id() -> None:
    regions = RegionMap(64)
    for number in range(1000):
        name = f"task-{number}"
        assert regions.region_of(name).name == f"region-{crc32(name.encode()) % 64:02d}"
        regions.add(task(name))
    assert {made.id for made in regions.tasks()} == {f"task-{number}" for number in range(1000)}
    assert all(len(region) for region in regions._regions)


def test_a_region_that_fell_far_below_its_peak_is_rebuilt_smaller() -> None:
    region = Region("r")
    for number in range(8192):
        region.add(task(str(number)))
    full_bytes = sys.getsizeof(region._tasks)
    rebuilt = [number for number in range(8190) if region.remove(str(number))]
    assert rebuilt
    assert rebuilt[0] == 8192 - 8192 // 8
    assert sys.getsizeof(region._tasks) < full_bytes / 4
    assert {made.id for made in region.tasks()} == {"8190", "8191"}


def test_a_small_region_is_never_rebuilt() -> None:
    region = Region("r")
    for number in range(1000):
        region.add(task(str(number)))
    assert not any(region.remove(str(number)) for number in range(1000))
