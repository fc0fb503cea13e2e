"""A region that lies, and somebody between it and the root: nothing is done that its answer does not show."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.node import FakeNode
from tests.rigs.between import Between, Passing
from tests.rigs.engine_process import fake_table
from tests.rigs.lying_region import LyingRegion
from tests.rigs.tree import engine_in, region_table, wait_state
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.rigs.engine_process import EngineProcess

URL = "http://img.example.com/"
HASTY: dict[str, Any] = {"due_s": 1, "request_timeout_s": 1}


class Replaying(Between):
    """Answers each question as one before it was answered."""

    kept: dict[str, tuple[int, dict[str, str], bytes]]
    is_on = False

    def answered(self, passing: Passing) -> None:
        if self.is_on:
            passing.status, passing.headers, passing.said = self.kept[passing.path]
        else:
            self.kept[passing.path] = (passing.status, passing.headers, passing.said)


def test_answers_that_are_stored_ones_count_for_nothing(tmp_path: Path) -> None:
    with FakeNode() as edge, engine_in(tmp_path, fake_table(edge.url, name="edge"), name="eu") as region:
        between = Replaying(region.port)
        between.kept = {}
        with (
            between,
            engine_in(
                tmp_path, region_table(region, name="eu", url=between.url), name="root", **HASTY
            ) as root,
        ):
            first = root.submit([URL + "1"])
            root.wait_for(first, "done")
            between.is_on = True
            again = root.submit([URL + "2"])
            _is_unproven(root, again, "it is a stored one")
            between.is_on = False
            root.wait_for(again, "done")


def test_answers_of_another_region_count_for_nothing(tmp_path: Path) -> None:
    """A load balancer that is set up wrongly: `eu` is asked, and `us` answers, with its own key."""
    with (
        FakeNode() as edge,
        FakeNode() as other,
        engine_in(tmp_path, fake_table(edge.url, name="edge"), name="eu") as eu,
        engine_in(tmp_path, fake_table(other.url, name="edge"), name="us") as us,
        Between(eu.port) as between,
        engine_in(tmp_path, region_table(eu, name="eu", url=between.url), name="root", **HASTY) as root,
    ):
        root.wait_for(root.submit([URL + "1"]), "done")
        between.target_port = us.port
        task = root.submit([URL + "2"])
        _is_unproven(root, task, "none of its public_keys")
        between.target_port = eu.port
        root.wait_for(task, "done")
        assert edge.urls == [URL + "1", URL + "2"]


def _is_unproven(root: EngineProcess, task: str, said: str) -> None:
    held = root.wait_for(task, "partial")
    assert said in held["errors"][0]["reason"]
    assert held["counter"] == 0
    wait_state(root, "eu", "unproven")


def _others(report: dict[str, Any]) -> Any:
    return {**report, "id": "another", "state": "done", "acked": report["total"], "at_work": 0}


def _other_body(report: dict[str, Any]) -> Any:
    return {**report, "digest": "0" * 32, "state": "done", "acked": report["total"], "at_work": 0}


def _fewer_targets(report: dict[str, Any]) -> Any:
    return {**report, "state": "done", "total": 1, "targets": 1, "acked": 1, "at_work": 0}


def _too_many_bits(report: dict[str, Any]) -> Any:
    return {**report, "done": "ffff", "acked": 1}


def _no_bits(report: dict[str, Any]) -> Any:
    return {**report, "done": "zz", "acked": 1}


def _negative(report: dict[str, Any]) -> Any:
    return {**report, "acked": -3, "failed": -1, "delayed": -2, "cancelled": -7}


def _more_than_there_are(report: dict[str, Any]) -> Any:
    return {**report, "acked": 10**18, "at_work": 5}


def _held_for_ever(report: dict[str, Any]) -> Any:
    return {
        **report,
        "state": "partial",
        "delayed": report["total"],
        "at_work": 0,
        "errors": [{"node": "x" * 5000}],
    }


def _no_state(report: dict[str, Any]) -> Any:
    return {**report, "state": "splendid", "at_work": 0}


def _not_json(_: dict[str, Any]) -> Any:
    return b"\x00not json"


def _other_shape(_: dict[str, Any]) -> Any:
    return b'{"version": "one", "tasks": 7}'


def _twice(report: dict[str, Any]) -> Any:
    """Done, and failed, of the same task in one answer: the first one counts, or none."""
    return [{**report, "digest": "f" * 32, "state": "done", "acked": report["total"]}, report]


@pytest.mark.parametrize(
    "lie",
    [
        _others,
        _other_body,
        pytest.param(_fewer_targets, marks=pytest.mark.slow),
        _too_many_bits,
        pytest.param(_no_bits, marks=pytest.mark.slow),
        pytest.param(_negative, marks=pytest.mark.slow),
        pytest.param(_more_than_there_are, marks=pytest.mark.slow),
        pytest.param(_held_for_ever, marks=pytest.mark.slow),
        pytest.param(_no_state, marks=pytest.mark.slow),
        pytest.param(_not_json, marks=pytest.mark.slow),
        pytest.param(_other_shape, marks=pytest.mark.slow),
        pytest.param(_twice, marks=pytest.mark.slow),
    ],
)
def test_a_region_that_signs_lies_has_nothing_done_and_harms_no_other(
    tmp_path: Path, lie: Callable[[dict[str, Any]], Any]
) -> None:
    with FakeNode() as edge, LyingRegion(lie) as liar:
        tables = liar.table("eu") + fake_table(edge.url, name="edge")
        with engine_in(tmp_path, tables, name="root", **HASTY) as root:
            began = time.monotonic()
            task = root.submit([f"{URL}{number}" for number in range(3)])
            wait_until(lambda: liar.questions >= 2 or root.task(task)["state"] == "partial", what="its lie")
            other = root.submit([URL + "other"], nodes=["edge"])
            root.wait_for(other, "done")
            until, document = time.monotonic() + 0.5, root.task(task)
            while time.monotonic() < until:
                parts = [document[key] for key in ("failed", "delayed", "cancelled")]
                assert document["nodes"][0]["acked"] == 0, document
                assert document["counter"] <= 3, document
                assert min(parts) >= 0, document
                assert document["counter"] + sum(parts) <= 6, document
                time.sleep(0.05)
                document = root.task(task)
            assert document["state"] in {"running", "partial", "accepted"}, document
            assert liar.questions < 50 + 100 * (time.monotonic() - began), "it is asked at a pace"
            assert "Traceback" not in root.log()
