"""How targets are parted into tasks, and what their bodies are."""

from __future__ import annotations

from engine.client.bodies import BODY_MAX_BYTES, encode, new_id, split


def test_split_keeps_order_and_the_limits() -> None:
    targets = [f"http://example.com/{number}" for number in range(20_001)]
    parts = list(split(targets))
    assert [len(part) for part in parts] == [10_000, 10_000, 1]
    assert [target for part in parts for target in part] == targets
    long = ["http://example.com/" + "é" * 2000] * 10_000
    parts = list(split(long))
    assert sum(map(len, parts)) == 10_000
    assert all(len(encode({"targets": part})) < BODY_MAX_BYTES for part in parts)


def test_one_target_larger_than_a_body_is_sent_alone() -> None:
    """The engine says what is wrong with it."""
    huge = "x" * (BODY_MAX_BYTES + 1)
    assert [list(part) for part in split(["a", huge])] == [["a"], [huge]]


def test_equal_documents_are_equal_bytes() -> None:
    assert encode({"id": "a", "targets": ["é"]}) == '{"id":"a","targets":["é"]}'.encode()


def test_new_ids_differ_and_fit_the_interface() -> None:
    ids = {new_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(task_id) <= 64 and task_id.isalnum() for task_id in ids)
