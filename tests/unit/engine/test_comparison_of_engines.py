"""Two engines compared by a recording: what counts as a difference, and as slower."""

import math
import random

import pytest

from engine.recordings.comparison import Comparison, Result, SideReport, middle_of
from engine.recordings.gor import REQUEST, RESPONSE, Entry
from engine.recordings.report import Answered
from engine.recordings.sides import slices_of


def sides() -> tuple[SideReport, SideReport, Comparison]:
    engine, beside = SideReport(), SideReport()
    return engine, beside, Comparison(engine, beside)


def test_a_slice_that_is_disturbed_does_not_make_a_version_slower() -> None:
    """Two of five slices are ten times slower at one of them, and then at the other."""
    engine, beside, comparison = sides()
    for factors in ((1, 1), (10, 1), (1, 1), (1, 10), (1, 1)):
        for side, factor in zip((engine, beside), factors, strict=True):
            for number in range(20):
                side.answered(202, factor * (1 + number) / 1000)
        comparison.end_slice()
    found = comparison.document()["latency_ratio"]
    assert {each: ratio["median"] for each, ratio in found.items()} == {"p50": 1.0, "p90": 1.0}


def test_a_version_that_is_twice_as_slow_is_so_in_the_median() -> None:
    engine, beside, comparison = sides()
    for noise in (1, 3, 0.7, 1.2, 1):
        for side, factor in ((engine, 2), (beside, 1)):
            for number in range(20):
                side.answered(202, noise * factor * (1 + number) / 1000)
        comparison.end_slice()
    assert comparison.document()["latency_ratio"]["p50"]["median"] == pytest.approx(2, rel=0.01)


@pytest.mark.parametrize(("true", "is_slower"), [(1.0, False), (2.0, True)])
def test_noise_that_makes_a_ratio_does_not_make_a_version_slower(true: float, is_slower: bool) -> None:
    """Of 500 comparisons, with ratios that scatter by two thirds both ways, nearly all are right."""
    source = random.Random(1)
    told = 0
    for _ in range(500):
        found = middle_of([true * math.exp(source.gauss(0, 0.5)) for _ in range(40)])
        told += (found["least"] > 1.3) is is_slower
    assert told >= (485 if is_slower else 499), told


def test_a_slice_with_few_answers_tells_no_latency() -> None:
    engine, beside, comparison = sides()
    for side in (engine, beside):
        side.answered(202, 0.001)
    assert comparison.end_slice() == {}
    assert comparison.document()["latency_ratio"] == {}


def test_statuses_are_compared_request_by_request() -> None:
    """A request that only one of them answered differs, too."""
    engine, beside, comparison = sides()
    for key in ("a", "b", "c"):
        beside.saw(key, Answered("GET /x", 200, "", ""))
        beside.recorded(key, 204)
    engine.saw("a", Answered("GET /x", 200, "", ""))
    engine.saw("b", Answered("GET /x", 500, "", "oh no"))
    comparison.end_slice()
    found = comparison.document()
    assert (found["compared"], found["different"]) == (3, 2)
    assert found["changes"] == [
        {"beside": 200, "engine": 500, "count": 1},
        {"beside": 200, "engine": 0, "count": 1},
    ]
    assert found["differences"][0] == {
        "request": "GET /x", "recorded": 204, "beside": 200, "engine": 500, "detail": "oh no",
    }  # fmt: skip
    assert not comparison.is_alike


def test_results_of_tasks_are_compared() -> None:
    engine, beside, comparison = sides()
    for side, task_id in ((engine, "n"), (beside, "o")):
        side.saw("a", Answered("POST /v1/engine/task", 202, task_id, ""))
    comparison.end_slice()
    [twins] = comparison.twins
    assert (twins.engine, twins.beside) == ("n", "o")
    done = Result(state="done", total=4, counter=4)
    comparison.take_results(twins, done, done)
    assert comparison.is_alike
    comparison.take_results(twins, Result(state="failed", total=4, counter=3, failed=1), done)
    found = comparison.document()
    assert (found["results_compared"], found["results_different"]) == (2, 1)
    assert found["results"][0]["engine"] == "failed, 3 of 4, 1 failed"


def entries(requests: int) -> list[Entry]:
    made = []
    for number in range(requests):
        made += [Entry(REQUEST, f"{number}", number, b""), Entry(RESPONSE, f"{number}", number, b"")]
    return made


@pytest.mark.parametrize(
    ("requests", "size", "limit", "loops", "parts"),
    [
        (10, 4, 0, False, [(0, 4), (0, 4), (0, 2)]),
        (4, 4, 0, False, [(0, 4)]),
        (3, 5, 8, True, [(0, 3), (1, 3), (2, 2)]),
        (10, 4, 5, False, [(0, 4), (0, 1)]),
        (0, 4, 8, True, []),
    ],
)
def test_a_recording_is_cut_into_slices(
    requests: int, size: int, limit: int, loops: bool, parts: list[tuple[int, int]]
) -> None:
    """None goes over the end of a pass; answers go with their requests."""
    found = list(slices_of(lambda: iter(entries(requests)), size, limit=limit, loops=loops))
    assert [(part.number, part.requests) for part in found] == parts
    assert all(len(part.entries) == 2 * part.requests for part in found)
