"""Bodies in, tasks or 422 out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from engine.config.load import parse
from engine.errors import RequestError
from engine.intake.task_body import DUE_MAX_S, TARGETS_MAX
from engine.intake.topology import Topology
from engine.intake.validate import Validator, all_hosts
from engine.saver.work import Work
from engine.tasks.records import Accepted

if TYPE_CHECKING:
    from engine.tasks.task import Task

URL = "http://img.example.com/a.jpg"
VARNISH = {
    "layer": [{"name": "parent"}, {"name": "edge"}],
    "node": [
        {"name": "parent-1", "layer": "parent", "driver": "varnish", "url": "http://127.0.0.1:1"},
        {"name": "edge-1", "layer": "edge", "driver": "varnish", "url": "http://127.0.0.1:2"},
    ],
}

MIXED = {
    "node": [
        {"name": "v", "driver": "varnish", "url": "http://127.0.0.1:1"},
        {"name": "s", "driver": "squid", "url": "http://127.0.0.1:2"},
        {"name": "t", "driver": "ats", "url": "http://127.0.0.1:3"},
    ]
}


def validator(table: dict[str, Any] | None = None) -> Validator:
    return Validator(
        Topology(parse(table or VARNISH)),
        due_s=60,
        allows_callback=lambda url: None if url == "http://ok/" else "is not allowed",
    )


def make(body: dict[str, Any] | bytes, table: dict[str, Any] | None = None) -> Task:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return validator(table).task(raw, all_hosts)


def refusal(body: dict[str, Any] | bytes) -> RequestError:
    with pytest.raises(RequestError) as caught:
        make(body)
    return caught.value


def test_a_body_with_targets_only_gets_the_defaults() -> None:
    task = make({"targets": [URL]})
    assert (task.action, task.kind, task.soft, task.prefetch) == ("purge", "url", False, False)
    assert task.targets == [URL]
    assert task.due_s == 60
    assert task.due_at == task.created_at + 60
    assert task.callback is None
    assert task.total == 2
    assert task.digest == b""


def test_every_field_arrives() -> None:
    task = make(
        {
            "id": "a.B_c-1",
            "action": "purge",
            "kind": "url",
            "targets": [URL, URL + "?2"],
            "soft": True,
            "prefetch": True,
            "layers": ["edge"],
            "nodes": ["edge-1"],
            "callback": "http://ok/",
            "due_s": 0.5,
        }
    )
    assert task.id == "a.B_c-1"
    assert task.soft
    assert task.prefetch
    assert task.plan is not None
    assert [step.node for step in task.plan.steps] == ["edge-1"]
    assert task.callback == "http://ok/"
    assert task.due_s == 0.5
    assert task.total == 4  # two targets on one node, purged and fetched
    assert len(task.digest) == 16


def test_new_ids_are_distinct_sort_by_time_and_are_valid_ids() -> None:
    one = validator()
    ids = [one.task(json.dumps({"targets": [URL]}).encode(), all_hosts).id for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert [text[:11] for text in ids] == sorted(text[:11] for text in ids)
    assert make({"id": ids[0], "targets": [URL]}).id == ids[0]


@pytest.mark.parametrize(
    ("body", "field", "texts"),
    [
        ({}, "", ["'targets' is missing"]),
        ([], "", ["expected `object`, got `array`"]),
        ({"targets": []}, "targets", ["takes 1-10000 targets, got 0"]),
        ({"targets": URL}, "targets", ["expected `array`, got `str`"]),
        ({"targets": [7]}, "targets[0]", ["takes a string, or an object of host and key"]),
        ({"targets": [URL, None]}, "targets[1]", ["takes a string, or an object of host and key"]),
        ({"target": [URL]}, "", ["unknown field 'target'", "did you mean 'targets'?"]),
        ({"targets": [URL], "zzz": 1}, "", ["unknown field 'zzz'", "known: targets, id, action"]),
        ({"targets": [{"host": "a", "kez": "b"}]}, "targets[0]", ["'kez'", "did you mean 'key'?"]),
        ({"targets": [{"host": "a"}]}, "targets[0]", ["'key' is missing"]),
        ({"targets": [URL], "action": "vanish"}, "action", ["takes purge, prefetch", "'vanish'"]),
        ({"targets": [URL], "kind": "purge"}, "kind", ["takes url, prefix, regex, key, host", "'purge'"]),
        ({"targets": [URL], "kind": 1}, "kind", ["takes url, prefix", "got `int`"]),
        ({"targets": [URL], "soft": 1}, "soft", ["expected `bool`, got `int`"]),
        ({"targets": [URL], "layers": "edge"}, "layers", ["expected `array`"]),
        ({"targets": [URL], "nodes": [1]}, "nodes[0]", ["expected `str`, got `int`"]),
        ({"targets": [URL], "id": ""}, "id", ["1-64 characters of A-Z a-z 0-9 . _ -"]),
        ({"targets": [URL], "id": "a b"}, "id", ["1-64 characters"]),
        ({"targets": [URL], "id": "a\n"}, "id", ["1-64 characters"]),
        ({"targets": [URL], "id": "ä"}, "id", ["1-64 characters"]),
        ({"targets": [URL], "id": "x" * 65}, "id", ["1-64 characters"]),
        ({"targets": [URL], "due_s": 0}, "due_s", ["more than 0 and at most 604800"]),
        ({"targets": [URL], "due_s": -1}, "due_s", ["more than 0"]),
        ({"targets": [URL], "due_s": DUE_MAX_S + 1}, "due_s", ["at most 604800"]),
        ({"targets": [URL], "due_s": "60"}, "due_s", ["expected `float | null`"]),
        ({"targets": [URL], "callback": "http://no/"}, "callback", ["is not allowed"]),
        ({"targets": [URL], "layers": ["edgy"]}, "layers", ["'edgy'", "did you mean 'edge'?"]),
        ({"targets": [URL], "nodes": ["edge-2"]}, "nodes", ["'edge-2'", "did you mean 'edge-1'?"]),
        ({"targets": [URL], "layers": ["edge"], "nodes": ["parent-1"]}, "nodes", ["nothing to purge"]),
        (
            {"targets": [URL], "action": "prefetch", "kind": "host"},
            "kind",
            ["prefetch takes kind 'url' only"],
        ),
        ({"targets": [URL], "action": "prefetch", "soft": True}, "soft", ["for purges"]),
        ({"targets": [URL], "action": "prefetch", "prefetch": True}, "prefetch", ["for purges"]),
        ({"targets": ["a.com"], "kind": "host", "prefetch": True}, "prefetch", ["only a purge by url"]),
        ({"targets": [{"host": "a", "key": "b"}]}, "targets[0]", ["takes a URL", "kind 'key'"]),
        ({"targets": [URL, "x"]}, "targets[1]", ["not an absolute URL"]),
        ({"targets": ["a.com"], "kind": "key"}, "targets[0]", ["takes host/key"]),
        ({"targets": ["a.com/a,b"], "kind": "key"}, "targets[0]", ["without space and comma"]),
        ({"targets": ["http://a.com/x"], "kind": "host"}, "targets[0]", ["takes a host", "prefix"]),
        ({"targets": [{"host": "a", "key": "b"}], "kind": "host"}, "targets[0]", ["takes a URL"]),
        ({"targets": ["a.com/x"], "kind": "host"}, "targets[0]", ["not a valid host name"]),
        ({"targets": ["x"], "kind": "prefix"}, "targets[0]", ["not an absolute URL"]),
        ({"targets": ["a.com"], "kind": "host", "literal": True}, "literal", ["only a URL"]),
        ({"targets": [URL], "literal": 1}, "literal", ["expected `bool`"]),
        ({"targets": [{"host": "a", "key": "b"}], "kind": "regex"}, "targets[0]", ["takes a URL"]),
        ({"targets": ["http://a/b c"], "kind": "regex"}, "targets[0]", ["percent-encoded"]),
    ],
)
def test_what_is_wrong_is_named_with_the_remedy(body: Any, field: str, texts: list[str]) -> None:
    error = refusal(json.dumps(body).encode())
    assert error.status == 422
    assert error.field == field
    assert error.detail.startswith(f"{field or 'body'}: ")
    for text in texts:
        assert text in error.detail


def test_as_many_targets_as_allowed_are_taken_and_one_more_is_not() -> None:
    targets = [f"http://a.example/{number}" for number in range(TARGETS_MAX)]
    assert len(make({"targets": targets}).targets) == TARGETS_MAX
    assert "takes 1-10000 targets, got 10001" in refusal({"targets": [*targets, URL]}).detail


def test_a_kind_that_a_node_cannot_do_is_refused_by_name() -> None:
    with pytest.raises(RequestError) as caught:
        make({"kind": "host", "targets": ["a.com"]}, MIXED)
    assert caught.value.field == "kind"
    assert "s (squid), t (ats)" in caught.value.detail
    assert "v (varnish)" not in caught.value.detail
    assert make({"kind": "host", "targets": ["a.com"], "nodes": ["v"]}, MIXED).total == 1


@pytest.mark.parametrize(
    ("default", "asked", "skipped"),
    [
        (False, {}, None),
        (False, {"on_incapable": "skip"}, ["s", "t"]),
        (True, {}, ["s", "t"]),
        (True, {"on_incapable": "refuse"}, None),
    ],
)
def test_nodes_that_cannot_do_it_are_skipped_where_the_task_or_the_configuration_says_so(
    default: bool, asked: dict[str, str], skipped: list[str] | None
) -> None:
    one = Validator(Topology(parse(MIXED)), due_s=60, skips_incapable=default, allows_callback=lambda _: None)
    body = json.dumps({"id": "x", "kind": "host", "targets": ["a.com", "b.com"], **asked}).encode()
    if skipped is None:
        with pytest.raises(RequestError, match=r"s \(squid\), t \(ats\)"):
            one.task(body, all_hosts)
        return
    for task in (one.task(body, all_hosts), one.replay(Accepted("x", 1000.0, 5.0, b"d", body))):
        assert task.total == 2, "what is skipped is not counted"
        assert task.plan is not None
        assert [node.name for node in task.plan.skipped] == skipped


def test_a_task_of_the_journal_is_the_same_task_again() -> None:
    one = validator()
    body = json.dumps({"id": "t", "targets": [URL], "due_s": 5, "callback": "http://gone/"}).encode()
    task = one.replay(Accepted("t", 1000.0, 5.0, b"d", body, "cms"))
    assert (task.id, task.created_at, task.due_s, task.due_at) == ("t", 1000.0, 5.0, 1005.0)
    assert task.callback == "http://gone/"  # allowed when it was accepted
    assert (task.digest, task.token) == (b"d", "cms")


@pytest.mark.parametrize(("asked", "rebound_s"), [(2.5, 2.5), (0, 0.0), (None, 7.0)])
def test_the_journal_has_a_rebound_beside_the_body(asked: float | None, rebound_s: float) -> None:
    """The version before refuses a body with fields that it does not know, and would fail the task."""
    one = Validator(Topology(parse(VARNISH)), due_s=60, rebound_s=7, allows_callback=lambda _: None)
    task = one.task(json.dumps({"id": "t", "targets": [URL], "rebound_s": asked}).encode(), all_hosts)
    work = Work()
    work.accept([task])
    [record] = work.batch.accepted
    assert "rebound_s" not in json.loads(record.body)
    assert json.loads(record.body)["targets"] == [URL]
    again = one.replay(record)
    assert again.rebound_s == task.rebound_s == rebound_s
    assert again.digest == task.digest


def test_the_journal_has_no_field_that_the_version_before_does_not_know() -> None:
    """Nor is a target refused that was accepted by it, or with the field."""
    one = validator()
    star = "http://a.com/*"
    task = one.task(json.dumps({"id": "t", "targets": [star], "literal": True}).encode(), all_hosts)
    assert "literal" not in json.loads(task.body)
    assert one.replay(Accepted("t", 1000.0, 5.0, task.digest, task.body)).targets == [star]
    plain = one.task(json.dumps({"id": "t", "targets": [URL]}).encode(), all_hosts)
    literal = one.task(json.dumps({"id": "t", "targets": [URL], "literal": False}).encode(), all_hosts)
    assert plain.digest != literal.digest
    assert "literal" not in json.loads(literal.body)


def test_a_task_that_was_kept_without_its_plan_is_planned_again() -> None:
    body = json.dumps({"targets": [URL], "nodes": ["gone"]}).encode()
    with pytest.raises(RequestError, match="'gone' is not configured"):
        validator().replay(Accepted("t", 0.0, 1.0, b"", body))


def test_a_task_of_the_journal_goes_to_the_nodes_it_was_accepted_for() -> None:
    """Whatever is configured now: a Squid would refuse the prefix, and one node is gone."""
    varnish = {"name": "v", "driver": "varnish", "url": "http://127.0.0.1:1"}
    before = Validator(
        Topology(parse({"node": [varnish, {**varnish, "name": "w"}]})),
        due_s=60,
        allows_callback=lambda _: None,
    )
    body = json.dumps({"kind": "prefix", "targets": ["http://a.com/", "http://b.com/"]}).encode()
    task = before.task(body, all_hosts)
    assert task.plan is not None
    squid = {"name": "s", "driver": "squid", "url": "http://127.0.0.1:1"}
    now = Validator(Topology(parse({"node": [varnish, squid]})), due_s=60, allows_callback=lambda _: None)
    again = now.replay(Accepted(task.id, 0.0, 60.0, b"", body, "", task.plan.key), task.plan.text)
    assert again.plan is not None
    assert [(step.node, step.lacks) for step in again.plan.steps] == [("v", ""), ("w", "gone")]
    assert again.total == task.total == 4
