"""What the history keeps of settled tasks, written and read back."""

from __future__ import annotations

import msgspec

from engine.tasks.columns import columns_of, sites_of
from engine.tasks.packing import pack
from engine.tasks.segments import Segment, read_record, tasks_of
from engine.tasks.settled import Columns, joined
from engine.tasks.words import ACKED, FAILED, State
from tests.fakes.settling import plan_of, settling


def read(*tasks: object) -> Columns:
    [(count, data)] = pack([*tasks])  # type: ignore[list-item]
    columns = Columns(tasks_of(read_record(data)))
    assert count == len(columns)
    return columns


def test_a_task_comes_back_as_it_settled() -> None:
    plan = plan_of("edge-1", "edge-2")
    first = settling("t-1", "http://a/1", "http://a/2", token="cms", absent_count=1, plan=plan)
    second = settling("t-2", "a", kind="host", at=1000.5, plan=plan)
    one, two = read(first, second)
    assert (one.id, one.targets, one.state, one.absent, one.odd) == (
        "t-1",
        ["http://a/1", "http://a/2"],
        State.DONE,
        1,
        None,
    )
    assert (one.shape.token, one.shape.plan, one.settled_at) == ("cms", plan.key, first.updated_at)
    assert (two.shape.kind, two.targets, two.created_at) == ("host", ["a"], 1000.5)


def test_of_a_task_that_is_not_done_every_subtask_is_kept() -> None:
    """Who retries it needs to know what failed where, beyond the errors that a document shows."""
    error = {"node": "edge-2", "target": "http://a/2", "reason": "400"}
    states = {"edge-2": bytes([ACKED, FAILED])}
    plan = plan_of("edge-1", "edge-2")
    task = settling(
        "t", "http://a/1", "http://a/2", state=State.FAILED, states=states, errors=[error], plan=plan
    )
    [one] = read(task)
    assert one.odd is not None
    assert [(part.node, part.operation, part.states) for part in one.odd.parts] == [
        ("edge-1", 1, bytes([ACKED, ACKED])),
        ("edge-2", 1, bytes([ACKED, FAILED])),
    ]
    assert one.odd.errors == [("edge-2", "http://a/2", "400")]


def test_a_task_that_cannot_be_planned_any_more_is_kept_too() -> None:
    task = settling("t", "http://a/1", state=State.FAILED)
    task.plan, task.shares = None, ()
    [one] = read(task)
    assert one.odd is not None
    assert one.odd.parts == []


def test_records_are_joined_in_their_order() -> None:
    """The shapes of one may stand at other places in another."""
    tasks = [
        settling("t-1", "http://a/1", token="x"),
        settling("t-2", "http://a/2", token="y", state=State.PARTIAL),
        settling("t-3", "http://a/3", "http://a/4", token="x", absent_count=2),
    ]
    records = [columns_of([task]) for task in tasks]
    columns = Columns(joined(records))
    assert list(columns) == [one for task in tasks for one in read(task)]
    assert columns.places_of([0, 2, 3]) == [0, 2]


def test_some_of_a_record_is_a_record_with_what_they_alone_have() -> None:
    tasks = [
        settling("t-1", "http://a/1", token="x"),
        settling("t-2", "http://a/2", "http://a/3", token="y", state=State.FAILED),
        settling("t-3", "http://a/4", token="z", absent_count=1),
    ]
    columns = Columns(columns_of(tasks))
    some = columns.chosen([2, 1])
    assert list(Columns(some)) == [columns.task(2), columns.task(1)]
    assert [shape.token for shape in some.shapes] == ["z", "y"]
    assert columns.chosen([]).ids == []


def test_many_targets_make_several_records() -> None:
    """None is larger than a block by far."""
    targets = [f"http://a/{number}" for number in range(40_000)]
    records = pack([settling("t-1", *targets), settling("t-2", *targets), settling("t-3", "http://a/")])
    assert [count for count, _ in records] == [2, 1]


def test_a_task_whose_targets_cannot_be_read_any_more_moves_no_other() -> None:
    """A task of the journal that the configuration does not allow has none."""
    tasks = [
        settling("t-1", "http://a/1"),
        settling("t-2", state=State.FAILED),
        settling("t-3", "http://a/3"),
    ]
    tasks[1].plan, tasks[1].shares = None, ()
    assert [(one.id, one.targets) for one in read(*tasks)] == [
        ("t-1", ["http://a/1"]),
        ("t-2", []),
        ("t-3", ["http://a/3"]),
    ]
    records = [columns_of([task]) for task in tasks]
    assert [one.targets for one in Columns(joined(records))] == [["http://a/1"], [], ["http://a/3"]]
    [alone] = read(tasks[1])
    assert alone.targets == []


def test_tasks_of_unlike_clients_and_counts_come_back_each_as_it_was() -> None:
    """Columns that are all the same are written in one go, others number by number."""
    plan, other = plan_of("edge-1"), plan_of("edge-2")
    tasks = [
        settling("t-1", "http://a/1", plan=plan, token="x"),
        settling("t-2", "http://a/2", "http://a/3", plan=other, token="x"),
        settling("t-3", "http://a/4", plan=plan, token="y", soft=True),
        settling("t-4", "http://a/5", plan=plan, token="x"),
    ]
    found = [(one.id, one.targets, one.shape.plan, one.shape.token, one.shape.soft) for one in read(*tasks)]
    assert found == [
        ("t-1", ["http://a/1"], plan.key, "x", False),
        ("t-2", ["http://a/2", "http://a/3"], other.key, "x", False),
        ("t-3", ["http://a/4"], plan.key, "y", True),
        ("t-4", ["http://a/5"], plan.key, "x", False),
    ]


def test_sites_are_known_where_those_of_all_tasks_are() -> None:
    tasks = [
        settling(f"t-{place}", site=site)
        for place, site in enumerate(["http://a/", "http://b/", "http://a/"])
    ]
    assert sites_of(tasks) == ["http://a/", "http://b/"]
    assert sites_of([*tasks, settling("t", "http://a/1")]) == []
    assert sites_of([settling("t", "http://a/1"), *tasks]) == []


def test_tasks_of_several_sites_are_found_by_each() -> None:
    """What the intake knows of their sites is what a look at their targets tells."""
    urls = [f"http://{host}/{place}" for place in range(40) for host in ("a.example", "b.example")]
    known = [settling(f"t-{place}", url, site=url[:17]) for place, url in enumerate(urls)]
    looked = [settling(f"t-{place}", url) for place, url in enumerate(urls)]
    heads = []
    for tasks in (known, looked):
        [(_, data)] = pack(tasks)
        record = read_record(data)
        assert isinstance(record, Segment)
        heads.append((set(record.head.hosts), record.hashes))
    assert heads[0] == heads[1]
    assert heads[0][0] == {"a.example", "b.example"}


def test_what_caches_had_nothing_of_is_read_as_versions_before_wrote_it() -> None:
    """They kept a number of a task for each task that had one, not a column."""
    two = columns_of([settling("t-1", "http://a/1"), settling("t-2", "http://a/2")])
    before = msgspec.structs.replace(two, absents=b"", absent={1: 70_000})
    since = columns_of([settling("t-3", "http://a/3"), settling("t-4", "http://a/4", absent_count=3)])
    columns = Columns(joined([before, since]))
    assert [one.absent for one in columns] == [0, 70_000, 0, 3]
    assert [one.absent for one in Columns(columns.chosen([3, 1]))] == [3, 70_000]
