"""How two engines answer the same recording: statuses, results of tasks, latencies. Pure.

A recording is played in slices, at one engine and then at the other, and the order changes from slice to
slice. Latencies are compared within a slice, and the middle of the slices' ratios counts: what disturbs a
busy machine for a second hits a slice or two, and a version that is slower is slower in each of them. How far
the ratios scatter tells how much slower it is at least.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from engine.recordings.answers import UNANSWERED, pairs
from engine.recordings.report import Latencies, Report

if TYPE_CHECKING:
    from engine.recordings.answers import Answer, Part

PERCENTILES: Final = ("p50", "p90")  #: that are compared; above them a slice has too few requests
_NAMED_MAX: Final = 20  #: differences that are listed
_OF_A_CHANGE_MAX: Final = 3  #: of these, with the same two statuses
_SLICE_MIN: Final = 10  #: answered requests without which a slice tells no latency
_RESULTS_MAX: Final = 2000  #: tasks whose results are compared
_NAMED: Final = {True: "a task", False: "without a task_id"}  #: an answer is, of two that are alike else
_ERRORS: Final = 400  #: the first status of an error


class SideReport(Report):
    """What one of two engines answered, kept until it is compared."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: dict[str, str] = {}
        self.answers: dict[str, Answer] = {}
        self.as_recorded: dict[str, Answer] = {}
        self._slice = Latencies()

    def answered(self, status: int, seconds: float) -> None:
        """See `Report.answered`."""
        super().answered(status, seconds)
        if status:
            self._slice.add(seconds)

    def saw(self, key: str, request: str, answer: Answer) -> None:
        """See `Report.saw`."""
        self.requests[key] = request
        self.answers[key] = answer

    def recorded(self, key: str, answer: Answer) -> None:
        """See `Report.recorded`."""
        self.as_recorded[key] = answer

    def forget(self) -> None:
        """Forget the answers, which are compared."""
        for kept in (self.requests, self.answers, self.as_recorded):
            kept.clear()

    def end_slice(self) -> dict[str, float]:
        """Return the latencies of a slice, milliseconds, and begin the next one."""
        latencies = self._slice.document() if self._slice.count >= _SLICE_MIN else {}
        self._slice = Latencies()
        return latencies


class Twins(NamedTuple):
    """Two tasks that one recorded request made."""

    request: str
    engine: str  #: id of the task
    beside: str


class Result(msgspec.Struct, frozen=True):
    """What became of a task."""

    state: str = ""
    total: int = 0
    counter: int = 0
    failed: int = 0
    delayed: int = 0

    def __str__(self) -> str:
        text = f"{self.state or 'not known'}, {self.counter} of {self.total}"
        more = [
            f"{count} {what}" for what, count in (("failed", self.failed), ("delayed", self.delayed)) if count
        ]
        return ", ".join([text, *more])


class Comparison:
    """Counts how the answers of two engines differ.

    Args:
        engine: answers of the engine that is tried.
        beside: answers of the one that it is compared with.

    Attributes:
        twins: tasks whose results are to be compared: all, or a random sample of very many.
    """

    def __init__(self, engine: SideReport, beside: SideReport) -> None:
        self.twins: list[Twins] = []
        self._engine = engine
        self._beside = beside
        self._compared = 0
        self._succeeded = 0
        self._recorded_tasks = 0
        self._made = 0
        self._changes: Counter[tuple[int, int]] = Counter()
        self._differences: list[dict[str, Any]] = []
        self._slices: list[dict[str, float]] = []
        self._results_compared = 0
        self._results_different = 0
        self._results: list[dict[str, str]] = []
        self._random = random.Random(0)  # noqa: S311 - which tasks are looked at is no secret

    def end_slice(self) -> dict[str, float]:
        """Compare what both have answered in a slice; return its latencies."""
        ours, others = self._engine.answers, self._beside.answers
        for key, request in (self._engine.requests | self._beside.requests).items():
            recorded = self._engine.as_recorded.get(key) or self._beside.as_recorded.get(key)
            self._recorded_tasks += sum(map(bool, recorded.task_ids)) if recorded else 0
            both = pairs(request, ours.get(key, UNANSWERED), others.get(key, UNANSWERED))
            for place, (name, one, other) in enumerate(both):
                self._compare(name, one, other, recorded.part(place).status if recorded else 0)
        for side in (self._engine, self._beside):
            side.forget()
        latencies = {"engine": self._engine.end_slice(), "beside": self._beside.end_slice()}
        slice_ = {
            f"{side}_{each}_ms": found[f"{each}_ms"]
            for side, found in latencies.items()
            if found
            for each in PERCENTILES
        }
        self._slices.append(slice_)
        return slice_

    def _compare(self, request: str, ours: Part, other: Part, recorded: int) -> None:
        """Compare how both have answered a request, or a line of it; *recorded* is that day's status."""
        self._compared += 1
        self._succeeded += all(0 < each.status < _ERRORS for each in (ours, other))
        if ours.task_id and other.task_id:
            self._pair(Twins(request, ours.task_id, other.task_id))
        if ours.status == other.status and ours.status:
            if bool(ours.task_id) != bool(other.task_id):
                self._take(request, *(_NAMED[bool(each.task_id)] for each in (ours, other)))
            return
        change = (other.status, ours.status)
        self._changes[change] += 1
        if self._changes[change] <= _OF_A_CHANGE_MAX and len(self._differences) < _NAMED_MAX:
            self._differences.append(
                {
                    "request": request,
                    "recorded": recorded,
                    "beside": other.status,
                    "engine": ours.status,
                    "detail": ours.detail or other.detail,
                }
            )

    def _pair(self, twins: Twins) -> None:
        self._made += 1
        if len(self.twins) < _RESULTS_MAX:
            self.twins.append(twins)
        elif (place := self._random.randrange(self._made)) < _RESULTS_MAX:
            self.twins[place] = twins

    def take_results(self, twins: Twins, ours: Result, other: Result) -> None:
        """Compare what became of two tasks."""
        self._take(twins.request, str(ours), str(other))

    def _take(self, request: str, ours: str, other: str) -> None:
        self._results_compared += 1
        if ours == other:
            return
        self._results_different += 1
        if len(self._results) < _NAMED_MAX:
            self._results.append({"request": request, "beside": other, "engine": ours})

    @property
    def is_empty(self) -> bool:
        """Whether there was nothing to compare."""
        return not self._compared

    @property
    def is_alike(self) -> bool:
        """Whether both answered every request, and alike, and the tasks came to the same."""
        return not (self._changes or self._results_different)

    def document(self) -> dict[str, Any]:
        """Return all of it."""
        return {
            "compared": self._compared,
            "different": self._changes.total(),
            "succeeded": self._succeeded,
            "recorded_tasks": self._recorded_tasks,
            "results_compared": self._results_compared,
            "results_different": self._results_different,
            "latency_ratio": self._ratios(),
            **{name: _of(side) for name, side in (("engine", self._engine), ("beside", self._beside))},
            "changes": [
                {"beside": before, "engine": now, "count": count}
                for (before, now), count in self._changes.most_common()
            ],
            "differences": self._differences,
            "results": self._results,
            "slices": self._slices,
        }

    def _ratios(self) -> dict[str, dict[str, float]]:
        """Return what the ratios of the slices come to: 2 is twice as slow as the one beside."""
        found = {
            each: [
                slice_[f"engine_{each}_ms"] / slice_[f"beside_{each}_ms"]
                for slice_ in self._slices
                if slice_ and slice_[f"beside_{each}_ms"]
            ]
            for each in PERCENTILES
        }
        return {each: middle_of(ratios) for each, ratios in found.items() if ratios}


def middle_of(ratios: list[float]) -> dict[str, float]:
    """Return the median of some ratios, and what the true one is at least.

    The true median is below the value number n/2 - sqrt(n), the smallest first, in two cases of a hundred:
    each ratio is above it or not as a coin falls, and sqrt(n) is two standard deviations of such coins.
    """
    ordered = sorted(ratios)
    count = len(ordered)
    place = max(0, int(count / 2 - math.sqrt(count)))
    return {"median": round(median(ordered), 3), "least": round(ordered[place], 3)}


def _of(side: SideReport) -> dict[str, Any]:
    """Return the part of one engine, with how many requests it answered as they were recorded."""
    document = side.document()
    kept = ("sent", "unanswered", "same", "different", "latency", "statuses", "skipped")
    return {key: document[key] for key in kept}
