"""Records: what late delivery changes, and what other rows call a row."""

from __future__ import annotations

import msgspec
import pytest

from engine.tasks.records import (
    Accepted,
    Batch,
    Callback,
    Delivered,
    Late,
    ParkedRow,
    late_of,
    packed,
    rows_of,
    token_of_row,
)
from engine.tasks.words import Operation


def row(task_id: str = "t", target: str = "http://a/", operation: int = Operation.PURGE_URL) -> ParkedRow:
    return ParkedRow(1, 1.0, "n", operation, target, task_id, "", 1.0)


def test_acked_rows_of_one_task_and_layer_are_counted_together() -> None:
    delivered = [
        Delivered(row("t", "http://a/1"), "edge", 1.0),
        Delivered(row("t", "http://a/2"), "edge", 3.0),
        Delivered(row("t", "http://a/3"), "parent", 2.0),
        Delivered(row("u"), "edge", 2.0),
    ]
    assert late_of(delivered) == [
        Late("t", "edge", 2, 0, None, 3.0, 0, "n"),
        Late("t", "parent", 1, 0, None, 2.0, 0, "n"),
        Late("u", "edge", 1, 0, None, 2.0, 0, "n"),
    ]


def test_each_failed_row_is_told_on_its_own_with_its_reason() -> None:
    delivered = [Delivered(row(target=f"http://a/{path}"), "edge", 1.0, "gone") for path in "xy"]
    assert [(late.failed, late.error) for late in late_of(delivered)] == [
        (1, {"node": "n", "target": "http://a/x", "reason": "gone"}),
        (1, {"node": "n", "target": "http://a/y", "reason": "gone"}),
    ]


def test_a_row_that_is_told_twice_counts_as_it_was_told_first() -> None:
    again = [Delivered(row(), "edge", at, reason) for at, reason in ((1.0, ""), (2.0, "gone"), (3.0, ""))]
    assert late_of(again) == [Late("t", "edge", 1, 0, None, 1.0, 0, "n")]
    assert late_of([Delivered(row(), "edge", 1.0, is_told=True), *again]) == []


def test_a_task_in_memory_is_not_told_again() -> None:
    assert late_of([Delivered(row(), "edge", 1.0, is_told=True)]) == []


def test_a_row_is_called_by_its_node_and_a_prefetch_by_its_kind_too() -> None:
    assert token_of_row(row()) == "n"
    assert token_of_row(row(operation=Operation.PREFETCH)) == "n:f"


def test_a_batch_is_accept_only_until_it_holds_anything_else() -> None:
    batch = Batch(accepted=[Accepted("a", 1.0, 1.0, b"", b"")])
    assert batch.is_accept_only
    assert not Batch(callbacks=[Callback(0, "a", "", "")]).is_accept_only
    assert not Batch(is_probe=True).is_accept_only


def test_a_record_without_the_newest_field_is_read() -> None:
    """The version before knows no token."""
    text = msgspec.json.encode(["a", 1.0, 60.0, "", ""])
    assert msgspec.json.decode(text, type=Accepted).token == ""


def test_a_record_with_a_field_that_the_version_before_does_not_know_is_read_by_it() -> None:
    class Before(msgspec.Struct, array_like=True):
        id: str
        created_at: float

    text = msgspec.json.encode(Accepted("a", 1.0, 60.0, b"", b"", traceparent="00-1-2-01"))
    assert msgspec.json.decode(text, type=Before).id == "a"
    assert msgspec.json.decode(text, type=Accepted).traceparent == "00-1-2-01"


@pytest.mark.parametrize("kind", [Accepted, Callback, ParkedRow])
def test_records_are_stored_as_arrays(kind: type[msgspec.Struct]) -> None:
    assert kind.__struct_config__.array_like


def test_what_was_absent_is_counted_among_what_was_acked() -> None:
    rows = [(row(target=f"http://a/{path}"), path != "y") for path in "xyz"]
    delivered = [Delivered(one, "edge", 1.0, is_absent=is_absent) for one, is_absent in rows]
    [late] = late_of(delivered)
    assert (late.acked, late.absent) == (3, 2)


def test_a_host_wide_row_is_the_rows_that_it_stands_for() -> None:
    pairs = [(1, f"http://a.com/{number}?q=%C3%BC") for number in range(500)]
    row = ParkedRow("h7", 3.0, "edge-1", 9, "a.com", "t", "", 5.0, packed(pairs))
    assert " " not in row.stands_for
    assert len(row.stands_for) < 10_000
    rows = rows_of(row)
    assert [(one.operation, one.target) for one in rows] == pairs
    assert {(one.key, one.node, one.task_id, one.parked_at, one.stands_for) for one in rows} == {
        ("h7", "edge-1", "t", 5.0, "")
    }
    assert rows_of(rows[0]) == [rows[0]]
