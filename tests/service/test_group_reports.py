"""An origin invalidates cache groups (RFC 9875) by what it answers: real Varnishes, their log, the engine."""

from __future__ import annotations

import itertools
import json
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.rigs.group_site import ELSEWHERE, OTHER, SHOP, GroupSite, Reporter
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


_numbers = itertools.count()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GroupSite]:
    with GroupSite(tmp_path_factory.mktemp("groups")) as site:
        yield site


@pytest.fixture(scope="module", params=[True, False], ids=["xkey", "ban"])
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GroupSite]:
    """A parent and two edges."""
    with GroupSite(tmp_path_factory.mktemp("groups"), edges=2, xkey=request.param) as site:
        yield site


def report(site: GroupSite, *reports: dict[str, object]) -> list[dict[str, object]]:
    """Report by hand; return what became of it."""
    whole = [{"host": SHOP, "method": "POST", "status": 200, "groups": '"x"', **each} for each in reports]
    status, _, answer = site.ask("POST", "/v1/engine/group-reports", {"reports": whole})
    assert status == 200, answer
    return list(json.loads(answer)["reports"])


def purged_since(site: GroupSite, before: int) -> set[str]:
    """Return what reports have had purged since there were so many tasks of theirs, one more report aside."""
    mark = f"mark-{next(_numbers)}"
    site.send("POST", f'"{mark}"')
    site.wait_purged({f"{SHOP}/{mark}"})
    found = site.tasks()
    return {target for task in found[: len(found) - before] for target in task["targets"]} - {
        f"{SHOP}/{mark}"
    }


def test_the_answer_to_a_post_purges_its_groups_of_its_origin_alone(site: GroupSite) -> None:
    site.fill()
    before = len(site.tasks())
    site.send("POST", '"products", "a b";x=1, "c,d"')
    assert site.fresh(site.parent) == {"/p", "/both", "/spaced"}  # here at once, before the engine knows
    site.wait_purged({f"{SHOP}/products", f"{SHOP}/a%20b", f"{SHOP}/c%2Cd"})
    assert len(site.tasks()) == before + 1
    assert site.fresh(site.parent, OTHER) == set()
    assert site.tasks()[0]["by"] == {"token": "cms", "address": "127.0.0.1", "door": "groups"}


def test_what_invalidates_nothing_purges_nothing(site: GroupSite) -> None:
    """Safe methods, errors, and what is no list of strings; what comes after it is purged all the same."""
    site.fill()
    before = len(site.tasks())
    for method, status, groups in (
        ("GET", 200, '"products"'),
        ("OPTIONS", 200, '"products"'),
        ("POST", 404, '"products"'),
        ("POST", 500, '"products"'),
        ("POST", 200, "products"),
        ("POST", 200, '"products'),
        ("POST", 200, '"a" "products"'),
    ):
        site.send(method, groups, status=status)
    assert purged_since(site, before) == set()
    assert site.fresh(site.parent) == set()


def test_a_storm_of_posts_is_few_tasks_and_leaves_nothing_stale(site: GroupSite) -> None:
    site.fill()
    before, began = len(site.tasks()), time.monotonic()
    for _ in range(200):
        site.send("POST", '"products"')
    sent_at = time.time()
    took_s = time.monotonic() - began
    site.wait_purged_since(sent_at)
    assert len(site.tasks()) - before <= took_s + 2
    assert site.fresh(site.parent) == {"/p", "/both"}


def test_what_was_answered_while_nobody_read_the_log_is_reported_later_and_nothing_twice(
    site: GroupSite,
) -> None:
    (reporter,) = site.reporters
    assert reporter.stop() == 0
    before = len(site.tasks())
    site.send("POST", '"unread"')
    reporter.start()
    site.wait_purged({f"{SHOP}/unread"})
    assert purged_since(site, before) == {f"{SHOP}/unread"}


def test_a_field_as_long_as_the_rfc_asks_for_is_reported_whole(site: GroupSite) -> None:
    groups = [f"{number:02}-{'g' * 29}" for number in range(32)]
    site.send("DELETE", ", ".join(f'"{group}"' for group in groups))
    site.wait_purged({f"{SHOP}/{group}" for group in groups})


def test_a_name_that_holds_more_than_a_name_says_nothing_of_another_site(site: GroupSite) -> None:
    """A client chooses what stands in Host."""
    before = len(site.tasks())
    site.send("POST", '"mine"', host=f'{OTHER} "products",')
    assert purged_since(site, before) == set()


def test_each_report_is_answered_by_itself(site: GroupSite) -> None:
    answers = report(
        site,
        {"host": ELSEWHERE},
        {"host": "a b"},
        {"groups": ""},
        {"groups": '"' + "g" * 1025 + '"'},
        {"method": "HEAD"},
        {"status": 199},
        {"groups": '"long-' + "g" * 1025 + '", "long"'},
        {"host": "SHOP.example.com:80", "method": "MKCOL", "status": 303},
    )
    reasons = [str(each["ignored"]) for each in answers[:-2]]
    for part, reason in zip(
        ("outside the sites", "not a valid host", "names no group", "longer than 1024", "safe", "no success"),
        reasons,
        strict=True,
    ):
        assert part in reason
    assert str(answers[-2]["ignored"]).endswith("long-" + "g" * 35)
    task = site.wait_done(str(answers[-2]["task_id"]))
    assert f"{SHOP}/long" in task["targets"]
    assert f"{SHOP}/x" in site.wait_done(str(answers[-1]["task_id"]))["targets"]
    assert report(site) == []


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"reports": [{}]}, 422, "reports[0]"),
        ({"reports": [{"host": SHOP, "method": "POST", "status": "200", "groups": ""}]}, 422, "status"),
        ({"reports": 1}, 422, "reports"),
        ({}, 422, "reports"),
        ({"reports": [], "x": 1}, 422, "x"),
        ({"reports": [{"host": "a", "method": "POST", "status": 1, "groups": ""}] * 1001}, 422, "1000"),
    ],
)
def test_a_body_that_is_none_is_refused_in_words(
    body: object, status: int, words: str, site: GroupSite
) -> None:
    found, _, answer = site.ask("POST", "/v1/engine/group-reports", body)
    assert (found, words in json.loads(answer)["detail"]) == (status, True), answer


def test_reports_need_a_token(site: GroupSite) -> None:
    assert site.engine.request("POST", "/v1/engine/group-reports", {"reports": []})[0] == 401


def test_what_is_reported_while_no_engine_answers_is_purged_when_it_does(site: GroupSite) -> None:
    site.engine.stop()
    for number in range(3):
        site.send("POST", f'"away-{number}"')
    log = site.reporters[0].log
    wait_until(lambda: "reports are held" in log.read_text(), what="the reporter having asked in vain")
    site.engine.start()
    site.wait_purged({f"{SHOP}/away-{number}" for number in range(3)})


@pytest.mark.slow
def test_all_nodes_lose_the_groups_of_that_origin(fleet: GroupSite) -> None:
    """A POST through one edge; the parent and both edges report it, which is one task."""
    fleet.fill()
    before = len(fleet.tasks())
    fleet.send("POST", '"products", "a b"', cache=fleet.edges[0])
    assert fleet.fresh(fleet.edges[0]) == {"/p", "/both", "/spaced"}
    fleet.wait_purged({f"{SHOP}/products", f"{SHOP}/a%20b"})
    for cache in fleet.caches:
        assert fleet.fresh(cache) == {"/p", "/both", "/spaced"}, cache.name
        assert fleet.fresh(cache, OTHER) == set()
    wait_until(
        lambda: sum(len(reporter.reported()) > 0 for reporter in fleet.reporters) >= 2,
        what="both that saw the answer having reported it",
    )
    assert len(fleet.tasks()) == before + 1
    (task,) = fleet.tasks()[:1]
    assert {node["name"] for node in fleet.wait_done(task["task_id"])["nodes"]} == {
        "parent-1",
        "edge-1",
        "edge-2",
    }


@pytest.mark.slow
def test_a_storm_through_both_edges_leaves_nothing_stale(fleet: GroupSite) -> None:
    fleet.fill()
    for number in range(200):
        fleet.send("POST", '"products"', cache=fleet.edges[number % 2])
    sent_at = time.time()
    fleet.wait_purged_since(sent_at)
    assert all(fleet.fresh(cache) == {"/p", "/both"} for cache in fleet.caches)


@pytest.mark.slow
def test_a_varnish_that_is_restarted_is_read_again(tmp_path: Path) -> None:
    with GroupSite(tmp_path) as site:
        site.parent.kill()
        site.parent.start()
        site.send("POST", '"products"')
        site.wait_purged({f"{SHOP}/products"})
        (reporter,) = site.reporters
        wrong = Reporter(site.parent, site.engine.port, token="wrong", log=tmp_path / "wrong.log").start()
        wait_until(lambda: "401" in wrong.log.read_text(), what="a wrong token being told of")
        assert wrong.stop(signal.SIGINT) == 1
        assert "reports are not sent" in wrong.log.read_text()
        assert reporter.stop() == 0
