"""Bodies in, tasks or 422 out."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from engine.config.load import parse
from engine.errors import RequestError
from engine.intake.plan import Topology
from engine.intake.urls import normalise_url
from engine.intake.validate import DUE_MAX_S, TARGETS_MAX, Validator, all_hosts, decode
from tests.unit.engine.test_urls import BAD, GOOD, generated_urls

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


def test_the_digest_is_of_the_fields_not_of_their_order_or_white_space() -> None:
    one = make(b'{"id": "x", "targets": ["http://a/"], "soft": false}')
    same = make(b'{"soft":false,"targets":["http://a/"],"id":"x"}')
    left_out = make(b'{"targets":["http://a/"],"id":"x"}')
    other = make(b'{"targets":["http://b/"],"id":"x"}')
    assert one.digest == same.digest == left_out.digest
    assert one.digest != other.digest


def test_targets_are_normalised_and_duplicates_counted_once_in_the_clients_order() -> None:
    task = make(
        {"targets": ["HTTP://B.example:80", "http://a.example/", "http://b.example/", "http://a.example/#x"]}
    )
    assert task.targets == ["http://b.example/", "http://a.example/"]
    assert task.total == 4


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


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b'{"targets": [',
        b'{"targets": ["http://a/"]} x',
        b"\xff\xfe",
        b'{"targets": ["\xff"]}',
        b'{"targets": ["\\ud800"]}',
        b"{'targets': []}",
        b'{"targets": ["http://a/"], "due_s": NaN}',
    ],
)
def test_what_is_not_json_is_answered_with_400(body: bytes) -> None:
    error = refusal(body)
    assert error.status == 400
    assert "not valid JSON" in error.detail


def test_deep_nesting_is_refused_and_does_not_exhaust_the_stack() -> None:
    assert refusal(b'{"targets": ' + b"[" * 100_000).status == 422
    assert refusal(b"[" * 100_000).status == 422


def test_a_number_that_is_too_large_is_refused() -> None:
    assert refusal(b'{"targets": ["http://a/"], "due_s": 1e999}').detail.startswith("due_s: ")


def test_as_many_targets_as_allowed_are_taken_and_one_more_is_not() -> None:
    targets = [f"http://a.example/{number}" for number in range(TARGETS_MAX)]
    assert len(make({"targets": targets}).targets) == TARGETS_MAX
    assert "takes 1-10000 targets, got 10001" in refusal({"targets": [*targets, URL]}).detail


@pytest.mark.parametrize(
    ("kind", "target", "stored"),
    [
        ("prefix", "http://A.com/img/", "http://a.com/img/"),
        ("prefix", "http://a.com/img*", "http://a.com/img"),
        ("prefix", "http://a.com/img**", "http://a.com/img"),
        ("prefix", "http://a.com/*", "http://a.com/"),
        ("prefix", "http://a.com", "http://a.com/"),
        ("regex", "http://A.com/.*\\.jpg$", "http://a.com/.*\\.jpg$"),
        ("regex", "http://a.com/a#b", "http://a.com/a#b"),
        ("key", "A.com/k", "a.com/k"),
        ("key", "a.com/a/b", "a.com/a/b"),
        ("key", {"host": "A.com:80", "key": "k"}, "a.com/k"),
        ("host", "A.com", "a.com"),
        ("host", "http://A.com:80", "a.com"),
        ("host", "https://a.com:443/", "a.com"),
        ("host", "a.com:8080", "a.com:8080"),
        ("host", "[::1]", "[::1]"),
    ],
)
def test_each_kind_has_its_stored_form_and_storing_it_again_changes_nothing(
    kind: str, target: Any, stored: str
) -> None:
    assert make({"kind": kind, "targets": [target]}).targets == [stored]
    assert make({"kind": kind, "targets": [stored]}).targets == [stored]


def test_a_host_outside_the_sites_is_refused_wherever_it_stands() -> None:
    def allows(host: str) -> bool:
        return host == "a.example"

    one = validator()
    good = ["http://a.example/1", "http://A.example:80/2"]
    assert one.task(json.dumps({"targets": good}).encode(), allows).targets[1] == "http://a.example/2"
    for bad in ("http://b.example/", "HTTP://B.example", "http://a.example:8080/", "http://a.example.b/"):
        with pytest.raises(RequestError, match=r"targets\[2\]: host .* is outside the sites"):
            one.task(json.dumps({"targets": [*good, bad]}).encode(), allows)
    for kind, target in (("key", "b.example/k"), ("host", "b.example"), ("prefix", "http://b.example/")):
        with pytest.raises(RequestError, match=r"targets\[0\]: host"):
            one.task(json.dumps({"kind": kind, "targets": [target]}).encode(), allows)


@pytest.mark.parametrize("seed", range(3))
def test_many_targets_give_what_each_alone_gives(seed: int) -> None:
    """The short way for common URLs is the long way, only shorter; also between odd neighbours."""
    one = validator()
    urls = [target for target, *_ in GOOD + BAD] * 20 + generated_urls(seed, 3000)
    random.Random(seed).shuffle(urls)
    expected: list[str] = []
    wrong: dict[str, str] = {}
    for url in urls:
        try:
            stored, _ = normalise_url(url, "targets[0]")
        except RequestError as exc:
            wrong[url] = exc.detail
        else:
            expected.append(url)
            task = one.task(json.dumps({"targets": [url]}).encode(), all_hosts)
            assert task.targets == [stored], f"seed {seed}: {url!r}"
    for url, detail in wrong.items():
        with pytest.raises(RequestError) as caught:
            one.task(json.dumps({"targets": [url]}).encode(), all_hosts)
        assert caught.value.detail == detail, f"seed {seed}: {url!r}"
    task = one.task(json.dumps({"targets": expected}).encode(), all_hosts)
    assert task.targets == list(dict.fromkeys(normalise_url(url, "t")[0] for url in expected))


def test_a_kind_that_a_node_cannot_do_is_refused_by_name() -> None:
    table = {
        "node": [
            {"name": "v", "driver": "varnish", "url": "http://127.0.0.1:1"},
            {"name": "s", "driver": "squid", "url": "http://127.0.0.1:2"},
            {"name": "t", "driver": "ats", "url": "http://127.0.0.1:3"},
        ]
    }
    with pytest.raises(RequestError) as caught:
        make({"kind": "host", "targets": ["a.com"]}, table)
    assert caught.value.field == "kind"
    assert "s (squid), t (ats)" in caught.value.detail
    assert "v (varnish)" not in caught.value.detail
    assert make({"kind": "host", "targets": ["a.com"], "nodes": ["v"]}, table).total == 1


def test_a_task_of_the_journal_is_the_same_task_again() -> None:
    one = validator()
    body = json.dumps({"id": "t", "targets": [URL], "due_s": 5, "callback": "http://gone/"}).encode()
    task = one.replay("t", body, 1000.0, 5.0)
    assert (task.id, task.created_at, task.due_s, task.due_at) == ("t", 1000.0, 5.0, 1005.0)
    assert task.callback == "http://gone/"  # allowed when it was accepted
    assert task.digest == one.replay("t", body, 2000.0, 5.0).digest


def test_a_task_of_the_journal_whose_nodes_are_gone_is_refused() -> None:
    body = json.dumps({"targets": [URL], "nodes": ["gone"]}).encode()
    with pytest.raises(RequestError, match="'gone' is not configured"):
        validator().replay("t", body, 0, 1)


def test_decoding_keeps_what_was_asked() -> None:
    asked = decode(b'{"targets": ["x"], "kind": "host", "nodes": ["n"]}')
    assert (asked.kind, asked.nodes, asked.due_s) == ("host", ["n"], None)
