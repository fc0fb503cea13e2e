"""Tasks that name targets alone are made a shorter way: they are what the longer one makes of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.config.load import parse
from engine.config.tables import ProofConfig
from engine.errors import RequestError
from engine.intake.confirming import Confirming
from engine.intake.plain_tasks import names_targets_alone
from engine.intake.task_body import decode
from engine.intake.topology import Topology
from engine.intake.validate import Validator, all_hosts
from engine.intake.verify_asked import Verifying
from engine.tasks.task import Task

URL = "http://img.example.com/a.jpg"
TABLE = {
    "node": [
        {"name": "v", "driver": "varnish", "url": "http://127.0.0.1:1"},
        {"name": "s", "driver": "squid", "url": "http://127.0.0.1:2"},
    ],
    "site": [{"host": "*.example.com", "confirm_over": 5}],
}


def validator() -> Validator:
    config = parse(TABLE)
    return Validator(
        Topology(config),
        due_s=30,
        allows_callback=lambda _: None,
        rebound_s=7,
        verifying=Verifying(ProofConfig(verify="sample")),
        confirming=Confirming(config.site),
    )


def facts(task: Task) -> dict[str, Any]:
    """Return all that a task is, but for its id, its body, and when it was made."""
    found = {name: getattr(task, name) for name in dir(task) if not name.startswith("_")}
    found = {name: value for name, value in found.items() if not callable(value)}
    assert found.pop("due_at") == found.pop("created_at") + found["due_s"]
    found["verify"] = task.verify is not None and (task.verify.asked.mode, task.verify.asked.count)
    for name in ("id", "body", "updated_at"):
        del found[name]
    return found


@pytest.mark.parametrize(
    "targets",
    [[URL], [URL, URL], [URL, "https://b.example.com/"], [URL.upper()]],
)
def test_both_ways_make_the_same_task(targets: list[str]) -> None:
    one, text = validator(), json.dumps({"targets": targets}).encode()
    asked = json.dumps({"targets": targets, "kind": "url"}).encode()
    assert names_targets_alone(text, len(targets))
    assert not names_targets_alone(asked, len(targets))
    short, long = one.task(text, all_hosts), one.task(asked, all_hosts)
    assert facts(short) == facts(long)
    assert (short.body, short.rebound_s, short.verify is not None) == (text, 7, True)


@pytest.mark.parametrize("url", ["http://img.example.com/*", "img.example.com/a", "http://b.example.net/"])
def test_both_ways_refuse_the_same(url: str) -> None:
    errors = []
    for more in ({}, {"kind": "url"}):
        with pytest.raises(RequestError) as caught:
            validator().task(json.dumps({"targets": [url], **more}).encode(), lambda host: "net" not in host)
        errors.append((caught.value.status, str(caught.value)))
    assert errors[0] == errors[1]


def test_a_task_that_is_to_be_confirmed_is_so_either_way() -> None:
    body = json.dumps({"targets": [URL, URL + "?2", URL + "?3"]}).encode()
    with pytest.raises(RequestError, match="confirm"):
        validator().task(body, all_hosts)
    assert isinstance(validator().begin(body, all_hosts, is_confirmed=True), Task)


@pytest.mark.parametrize(
    "body",
    [
        b'{"targets": ["http://a/"], "soft": true}',
        b'{"soft":true,"targets":["http://a/"]}',
        b'{"targets": [], "id": "x"}',
        b'{"targets": ["http://a/"], "targets": ["http://a/", "http://b/"]}',
        b'{"targets": [{"host": "a", "key": "b"}]}',
        b'{"targets": []}',
        b'{"targets": ["http://a/"]' + b" " * 512 + b"}",
    ],
)
def test_what_names_anything_else_or_is_large_goes_the_longer_way(body: bytes) -> None:
    assert not names_targets_alone(body, len(decode(body).targets))


def test_escapes_in_a_target_hide_no_field() -> None:
    """A quotation mark within a text is one more, as an escape none: neither makes a field look like text."""
    one = b'{"targets": ["http://a/\\u0022"]}'
    assert decode(one).targets == ['http://a/"']
    assert names_targets_alone(one, 1)
    assert not names_targets_alone(b'{"targets": ["http://a/\\""]}', 1)
