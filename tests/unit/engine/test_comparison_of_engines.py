"""Two engines compared by a recording: what counts as a difference, and as slower."""

import math
import random

import pytest

from engine.recordings.answers import Answer, Part, answer_of, pairs
from engine.recordings.comparison import Comparison, Result, SideReport, middle_of
from engine.recordings.gor import REQUEST, RESPONSE, Entry
from engine.recordings.sides import slices_of


def sides() -> tuple[SideReport, SideReport, Comparison]:
    engine, beside = SideReport(), SideReport()
    return engine, beside, Comparison(engine, beside)


def whole(status: int, task_id: str = "", detail: str = "") -> Answer:
    return Answer((Part(status, task_id, detail),))


LINES = "POST /v1/engine/tasks"
TASK = b'{"task_id":"%s"}'
REFUSED = b'{"title":"Unprocessable Content","status":422,"detail":"line 2: no","line":2}'


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
        beside.saw(key, "GET /x", whole(200))
        beside.recorded(key, whole(204))
    engine.saw("a", "GET /x", whole(200))
    engine.saw("b", "GET /x", whole(500, detail="oh no"))
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
        side.saw("a", "POST /v1/engine/task", whole(202, task_id))
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


def test_each_line_of_several_tasks_is_an_answer_of_its_own() -> None:
    """The answer to all of them is 200 whatever became of them."""
    engine, beside, comparison = sides()
    beside.saw("a", LINES, answer_of(LINES, 200, TASK % b"o1" + b"\n" + TASK % b"o2" + b"\n"))
    beside.recorded("a", answer_of(LINES, 200, TASK % b"r1" + b"\n" + TASK % b"r2" + b"\n"))
    engine.saw("a", LINES, answer_of(LINES, 200, TASK % b"n1" + b"\n" + REFUSED + b"\n"))
    comparison.end_slice()
    found = comparison.document()
    assert (found["compared"], found["different"], found["recorded_tasks"]) == (2, 1, 2)
    assert [(twins.engine, twins.beside) for twins in comparison.twins] == [("n1", "o1")]
    assert found["differences"] == [
        {
            "request": f"{LINES} line 2", "recorded": 202, "beside": 202, "engine": 422,
            "detail": "line 2: no",
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "statuses"),
    [
        (answer_of(LINES, 200, TASK % b"a" + b"\n" + TASK % b"b"), whole(503), [(202, 503), (202, 503)]),
        (
            answer_of(LINES, 200, TASK % b"a" + b"\n" + REFUSED),
            answer_of(LINES, 200, TASK % b"a"),
            [(202, 202), (422, 0)],
        ),
        (answer_of(LINES + "?x", 200, b"[]\n{}\nno json"), whole(200), [(200, 200)] * 3),
        (answer_of(LINES, 200, b"\n"), whole(200), [(200, 200)]),
        (answer_of(LINES, 422, REFUSED), whole(422), [(422, 422)]),
    ],
)
def test_a_line_that_one_side_did_not_answer_differs(
    one: Answer, other: Answer, statuses: list[tuple[int, int]]
) -> None:
    """An answer to the whole is one to each line."""
    assert [(ours.status, others.status) for _, ours, others in pairs(LINES, one, other)] == statuses


def test_a_request_that_neither_answers_differs() -> None:
    engine, beside, comparison = sides()
    for side in (engine, beside):
        side.saw("a", "GET /x", whole(0))
    comparison.end_slice()
    assert comparison.document()["different"] == 1
    assert not comparison.is_alike


def test_a_task_that_one_answer_does_not_name_is_another_result() -> None:
    engine, beside, comparison = sides()
    for side, body in ((engine, b"{}"), (beside, TASK % b"o")):
        side.saw("a", "POST /v1/engine/task", answer_of("POST /v1/engine/task", 202, body))
    comparison.end_slice()
    found = comparison.document()
    assert (found["results_compared"], found["results_different"], found["succeeded"]) == (1, 1, 1)
    assert found["results"][0]["engine"] == "without a task_id"


def entries(requests: int) -> list[Entry]:
    made = []
    for number in range(requests):
        made += [Entry(REQUEST, f"{number}", number, b""), Entry(RESPONSE, f"{number}", number, b"")]
    return made


@pytest.mark.parametrize(
    ("requests", "size", "limit", "loops", "slices"),
    [
        (10, 4, 0, False, [[(0, 4)], [(0, 4)], [(0, 2)]]),
        (4, 4, 0, False, [[(0, 4)]]),
        (3, 5, 10, True, [[(0, 3), (1, 2)], [(1, 1), (2, 3), (3, 1)]]),
        (10, 4, 5, False, [[(0, 4)], [(0, 1)]]),
        (3, 2, 6, True, [[(0, 2)], [(0, 1), (1, 1)], [(1, 2)]]),
        (0, 4, 8, True, []),
    ],
)
def test_a_recording_is_cut_into_slices(
    requests: int, size: int, limit: int, loops: bool, slices: list[list[tuple[int, int]]]
) -> None:
    """A slice goes on with the next pass until it is full; answers go with their requests."""
    found = list(slices_of(lambda: iter(entries(requests)), size, limit=limit, loops=loops))
    played = [[(part.number, len(part.entries) / 2) for part in each.parts if part.entries] for each in found]
    assert played == slices
    assert [each.requests for each in found] == [sum(part[1] for part in each) for each in slices]
