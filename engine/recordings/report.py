"""What became of a replay: rates, latencies, and the answers beside those that were recorded."""

from __future__ import annotations

import random
from array import array
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from engine.recordings.answers import Answer

_SAMPLES_MAX: Final = 200_000
_NAMED_MAX: Final = 20  #: differences that are listed
_PERCENTILES: Final = (50, 90, 99)


class Difference(msgspec.Struct, frozen=True):
    """A request that is not answered as it was."""

    request: str  #: method and path, and the line of several
    recorded: int
    answered: int  #: 0: not at all
    detail: str


class Latencies:
    """Percentiles of latencies, of a random sample where there are very many.

    Attributes:
        count: of all that were added.
    """

    def __init__(self) -> None:
        self._samples = array("d")
        self.count = 0
        self._max = 0.0
        self._random = random.Random(0)  # noqa: S311 - which samples are kept is no secret

    def add(self, seconds: float) -> None:
        """Count one."""
        self.count += 1
        self._max = max(self._max, seconds)
        if len(self._samples) < _SAMPLES_MAX:
            self._samples.append(seconds)
        elif (place := self._random.randrange(self.count)) < _SAMPLES_MAX:
            self._samples[place] = seconds

    def document(self) -> dict[str, float]:
        """Return the percentiles in milliseconds; nothing where there are none."""
        if not self._samples:
            return {}
        ordered = sorted(self._samples)
        last = len(ordered) - 1
        found = {f"p{each}_ms": round(ordered[last * each // 100] * 1000, 2) for each in _PERCENTILES}
        return {**found, "max_ms": round(self._max * 1000, 2)}


class Report:
    """Counts of one replay.

    Attributes:
        sent: requests.
        skipped: entries that are no request that can be sent, by why.
        late_s: the longest that a request went out behind its time.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.skipped: Counter[str] = Counter()
        self.late_s = 0.0
        self.latencies = Latencies()
        self.recorded_latencies = Latencies()
        self.elapsed_s = 0.0
        self._statuses: Counter[int] = Counter()
        self._pairs: Counter[tuple[int, int]] = Counter()
        self._same = 0
        self._differences: list[Difference] = []
        self._unanswered = 0

    def answered(self, status: int, seconds: float) -> None:
        """Count an answer; a status of 0 is none."""
        self._statuses[status] += 1
        if status:
            self.latencies.add(seconds)
        else:
            self._unanswered += 1

    def compare(self, request: str, recorded: int, answered: int, detail: str) -> None:
        """Count an answer, to a request or to a line of it, beside the one that was recorded."""
        if recorded == answered:
            self._same += 1
            return
        self._pairs[recorded, answered] += 1
        if len(self._differences) < _NAMED_MAX:
            self._differences.append(Difference(request, recorded, answered, detail))

    def saw(self, key: str, request: str, answer: Answer) -> None:
        """Take an answer; the same request of two engines has one *key*. `engine.recordings.sides` does."""

    def recorded(self, key: str, answer: Answer) -> None:
        """Take how a request was answered when it was recorded; as `saw`."""

    @property
    def is_alike(self) -> bool:
        """Whether every request was answered, and as it was recorded."""
        return not self._pairs and not self._unanswered

    def document(self) -> dict[str, Any]:
        """Return all of it."""
        compared = self._same + self._pairs.total()
        return {
            "sent": self.sent,
            "elapsed_s": round(self.elapsed_s, 3),
            "requests_per_s": round(self.sent / self.elapsed_s, 1) if self.elapsed_s else 0.0,
            "late_s": round(self.late_s, 3),
            "unanswered": self._unanswered,
            "compared": compared,
            "same": self._same,
            "different": compared - self._same,
            "latency": self.latencies.document(),
            "recorded_latency": self.recorded_latencies.document(),
            "statuses": {str(status): count for status, count in sorted(self._statuses.items()) if status},
            "skipped": dict(self.skipped),
            "changes": [
                {"recorded": recorded, "answered": answered, "count": count}
                for (recorded, answered), count in self._pairs.most_common()
            ],
            "differences": [msgspec.to_builtins(each) for each in self._differences],
        }
