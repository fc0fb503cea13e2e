"""Which tasks have to be confirmed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.config.tables import Config, NodeConfig, SiteConfig
from engine.errors import RequestError
from engine.intake.confirming import Confirming
from engine.intake.topology import Topology
from engine.intake.validate import Validator, all_hosts
from engine.tasks.records import Accepted

SITES = [
    SiteConfig(host="*"),
    SiteConfig(host="*.example.com", confirm_over=4),
    SiteConfig(host="free.example.com"),
    SiteConfig(host="shop.example.com", confirm_over=2),
]


@pytest.fixture
def validator() -> Validator:
    nodes = [
        NodeConfig(name=f"edge-{n}", driver="varnish", url=f"http://127.0.0.1:{n}", parents=[])
        for n in (1, 2)
    ]
    return Validator(
        Topology(Config(node=nodes)),
        due_s=60,
        allows_callback=lambda _url: None,
        confirming=Confirming(SITES),
    )


def reason(validator: Validator, **body: Any) -> str:
    """Return why a task is refused; empty: it is not."""
    try:
        validator.task(json.dumps(body).encode(), all_hosts)
    except RequestError as exc:
        return exc.detail if (exc.status, exc.field) == (422, "confirm") else f"otherwise: {exc}"
    return ""


def urls(host: str, count: int) -> list[str]:
    return [f"http://{host}/{number}" for number in range(count)]


@pytest.mark.parametrize(
    ("host", "count", "says"),
    [
        ("img.example.com", 2, ""),
        ("img.example.com", 3, "this is a purge of 6 subtasks on site '*.example.com', more than its"),
        ("img.example.com:8080", 3, "on site '*.example.com'"),
        ("shop.example.com", 2, "on site 'shop.example.com'"),
        ("free.example.com", 90, ""),
        ("example.org", 90, ""),
    ],
)
def test_urls_count_for_the_site_that_names_their_host_most_exactly(
    validator: Validator, host: str, count: int, says: str
) -> None:
    said = reason(validator, targets=urls(host, count))
    assert says in said
    assert bool(says) == bool(said)
    assert reason(validator, targets=urls(host, count), confirm=True) == ""


def test_subtasks_are_counted_by_site(validator: Validator) -> None:
    assert reason(validator, targets=[*urls("img.example.com", 2), *urls("example.org", 90)]) == ""
    assert reason(validator, targets=[*urls("img.example.com", 2), *urls("a.example.com", 1)])


@pytest.mark.parametrize(
    ("kind", "target", "is_asked"),
    [
        ("prefix", "http://img.example.com/a/", True),
        ("key", "img.example.com/product-1", True),
        ("host", "free.example.com", False),
        ("host", "*.example.com", True),
        ("host", "*.com", True),
        ("host", "*.example.org", False),
    ],
)
def test_a_wide_purge_of_a_site_that_asks_back_has_to_be_confirmed(
    validator: Validator, kind: str, target: str, is_asked: bool
) -> None:
    said = reason(validator, kind=kind, targets=[target])
    assert bool(said) == is_asked
    assert not said or "nobody knows how many objects" in said


def test_a_task_of_the_journal_is_not_asked_again_and_its_body_has_nothing_that_is_new(
    validator: Validator,
) -> None:
    body = json.dumps({"id": "t", "targets": urls("shop.example.com", 9), "confirm": True}).encode()
    task = validator.task(body, all_hosts)
    assert b"confirm" not in task.body
    again = validator.replay(Accepted("t", 1.0, 60, task.digest, task.body))
    assert again.targets == task.targets
