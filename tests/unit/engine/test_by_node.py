"""What each node did for a task, as its document tells it."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest

from engine.tasks import documents
from engine.tasks.plan import Plan, Step
from engine.tasks.records import By, Late
from engine.tasks.stored_documents import apply_late, cancel_stored, public
from engine.tasks.task import Share, Task
from engine.tasks.verify import SEEN_MAX, OfNode, Verify, VerifyAsked
from engine.tasks.words import Operation, State
from tests.fakes.shares import NotingNode

PARENT = Step("parent-1", "parent", Operation.PURGE_URL, (), is_parent=True)
EDGE = Step("edge-1", "edge", Operation.PURGE_URL, (0,), is_parent=False)


def task(count: int = 3) -> Task:
    made = Task.internal([f"http://a/{number}" for number in range(count)], owner=None, task_id="t")
    made.plan, made.total, made.by = Plan((PARENT, EDGE)), 2 * count, By("cms", "192.0.2.7", "http")
    return made


def share(of: Task, step: Step, operation: Operation = Operation.PURGE_URL) -> Share:
    made = Share(of, NotingNode(step.node, step.layer), operation, len(of.targets))
    of.shares = [*of.shares, made]
    return made


def stored(of: Task) -> dict[str, Any]:
    """Return the document as the store gives it back."""
    return msgspec.json.decode(msgspec.json.encode(documents.stored_document(of)))  # type: ignore[no-any-return]


def nodes_of(document: dict[str, Any]) -> list[tuple[Any, ...]]:
    keys = ("name", "total", "acked", "failed", "delayed", "cancelled")
    return [tuple(node[key] for key in keys) for node in document["nodes"]]


def test_a_document_says_who_what_and_how_far_each_node_is_before_anything_was_sent() -> None:
    shown = public(stored(task()))
    assert shown["by"] == {"token": "cms", "address": "192.0.2.7", "door": "http"}
    assert (shown["targets"], shown["target_count"]) == (["http://a/0", "http://a/1", "http://a/2"], 3)
    assert nodes_of(shown) == [("parent-1", 3, 0, 0, 0, 0), ("edge-1", 3, 0, 0, 0, 0)]
    assert (shown["settled_at"], shown["nodes"][0]["acked_at"], shown["nodes"][0]["stale"]) == (None, None, 0)


def test_a_document_shows_the_first_hundred_targets_and_how_many_there_are() -> None:
    shown = public(stored(task(250)))
    assert (len(shown["targets"]), shown["targets"][-1], shown["target_count"]) == (100, "http://a/99", 250)


def test_a_nodes_purges_and_prefetches_are_told_together() -> None:
    of = task()
    of.plan = Plan((EDGE,))
    purge, prefetch = share(of, EDGE), share(of, EDGE, Operation.PREFETCH)
    purge.acked_count, purge.acked_at, purge.absent_count = 3, 7.0, 4  # sent again, absent again
    prefetch.acked_count, prefetch.acked_at, prefetch.failed_count = 1, 9.0, 1
    [node] = public(stored(of))["nodes"]
    assert (node["total"], node["acked"], node["failed"], node["absent"]) == (6, 4, 1, 3)
    assert node["acked_at"] == 9.0


def test_callbacks_and_stored_documents_say_the_same() -> None:
    of = task()
    share(of, PARENT)
    told = msgspec.json.decode(msgspec.json.encode(documents.document(of)))
    assert told == public(stored(of))


def half() -> dict[str, Any]:
    """Return a stored document: the parent's are acked, the edge's wait."""
    of = task()
    of.state = State.PARTIAL
    parent, edge = share(of, PARENT), share(of, EDGE)
    parent.acked_count, parent.acked_at, edge.delayed_count = 3, 1.0, 3
    return stored(of)


@pytest.mark.parametrize("layer", ["edge", "", "renamed"])
def test_late_delivery_counts_for_the_node_and_its_layer_whatever_that_is_called_now(layer: str) -> None:
    document = half()
    apply_late(document, Late("t", layer, 2, 0, None, 5.0, 1, "edge-1"))
    assert nodes_of(public(document))[1] == ("edge-1", 3, 2, 0, 1, 0)
    assert (document["layers"][1]["counter"], public(document)["settled_at"]) == (2, None)
    error = {"node": "edge-1", "target": "http://a/2", "reason": "gone"}
    apply_late(document, Late("t", layer, 0, 1, error, 6.0, 0, "edge-1"))
    shown = public(document)
    assert nodes_of(shown)[1] == ("edge-1", 3, 2, 1, 0, 0)
    assert (shown["state"], shown["settled_at"]) == ("failed", 6.0)
    assert (shown["nodes"][1]["acked_at"], shown["nodes"][1]["absent"]) == (5.0, 1)


def test_a_cancel_counts_for_the_nodes_and_a_late_answer_is_taken_from_it() -> None:
    document = half()
    cancel_stored(document, 4.0)
    assert nodes_of(public(document)) == [("parent-1", 3, 3, 0, 0, 0), ("edge-1", 3, 0, 0, 0, 3)]
    assert public(document)["settled_at"] == 4.0
    apply_late(document, Late("t", "edge", 1, 0, None, 5.0, 0, "edge-1"))
    assert nodes_of(public(document))[1] == ("edge-1", 3, 1, 0, 0, 2)
    assert public(document)["settled_at"] == 4.0


def test_what_the_version_before_counted_by_layer_alone_is_shown_with_the_nodes() -> None:
    """An engine of that version delivers rows of a document that this one wrote."""
    document = half()
    document["layers"][1].update(counter=2, failed=1, delayed=0)
    document.update(counter=5, failed=1, delayed=0, state="failed", updated_at=8.0)
    shown = public(document)
    assert nodes_of(shown)[1] == ("edge-1", 3, 2, 1, 0, 0)
    assert shown["settled_at"] == 8.0


def test_a_document_of_the_version_before_is_shown_without_what_it_did_not_keep() -> None:
    document = {key: value for key, value in half().items() if key not in {"nodes", "by", "targets"}}
    del document["target_count"]
    apply_late(document, Late("t", "edge", 3, 0, None, 5.0, 0, "edge-1"))
    shown = public({**document, "token": "cms"})
    assert (shown["state"], shown["nodes"], shown["targets"], shown["target_count"]) == ("done", [], [], 0)
    assert shown["by"] == {"token": "cms", "address": "", "door": ""}


def test_a_nodes_digest_is_that_of_its_one_body_or_of_the_lines_of_all() -> None:
    node, one, other = OfNode(), "a" * 64, "b" * 64
    digests = [node.digest]
    for url, seen in (("http://a/1", [""]), ("http://a/1", [one, one]), ("http://a/0", ["", other])):
        node.saw(url, seen)
        digests.append(node.digest)
    lines = f"http://a/0 -\nhttp://a/0 {other}\nhttp://a/1 {one}\n"
    assert digests == [None, None, one, hashlib.sha256(lines.encode()).hexdigest()]
    for number in range(SEEN_MAX + 1):
        node.saw(f"http://a/{number}", [one])
    assert node.digest is None


def test_a_nodes_digest_is_stored_and_shown_and_null_of_a_version_before() -> None:
    made = task(1)
    share(made, EDGE)
    made.verify = Verify(VerifyAsked("all"))
    assert "verified_digest" not in stored(made)["nodes"][0]
    assert public(stored(made))["nodes"][0]["verified_digest"] is None
    made.verify.of("edge-1").saw("http://a/0", ["a" * 64])
    assert public(stored(made))["nodes"][0]["verified_digest"] == "a" * 64
