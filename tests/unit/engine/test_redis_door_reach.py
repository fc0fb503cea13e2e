"""What an operator is told of one thing that a door reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from engine.doors.redis.reach import Reach
from engine.observe.counters import Stats

if TYPE_CHECKING:
    from collections.abc import Callable


class Loop:
    """Tells the time, and calls what is due."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> object:
        self._due.append((self.now + delay_s, callback))
        return callback

    def go(self, now: float) -> None:
        """Let time pass."""
        self.now = now
        due, self._due = (
            [one for one in self._due if one[0] <= now],
            [one for one in self._due if one[0] > now],
        )
        for _, callback in due:
            callback()


class Told:
    """A reach, and what it tells."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.stats = Stats()
        self.alerts: list[tuple[str, str]] = []
        self.reach = Reach("redis://h/0", "purges", self.stats, self._alert, cast("Any", self.loop))

    def _alert(self, key: str, level: str, message: str) -> None:
        assert key.endswith(":purges")
        self.alerts.append((level, message))

    def value(self, name: str) -> float:
        return self.stats.redis_doors["redis://h/0", "purges"][name]


def test_what_fails_is_told_once_again_after_a_while_and_when_it_is_over() -> None:
    told = Told()
    told.reach.failed("refused")
    told.reach.failed("refused")
    assert [level for level, _ in told.alerts] == ["error"]
    told.reach.failed("WRONGTYPE")
    told.loop.now = 301.0
    told.reach.failed("WRONGTYPE")
    assert [level for level, _ in told.alerts] == ["error"] * 3
    assert told.value("up") == 0
    told.reach.reached()
    told.reach.reached()
    assert told.alerts[-1] == ("resolved", "purges is read again from redis://h/0")
    assert told.value("up") == 1
    assert told.stats.redis_entries == {("redis://h/0", "purges", "reconnects"): 1}


def test_what_is_reached_at_once_is_not_told() -> None:
    told = Told()
    told.reach.reached()
    assert (told.alerts, told.stats.redis_entries) == ([], {})


def test_what_has_happened_is_over_when_it_is_read_again() -> None:
    told = Told()
    told.reach.reached()
    told.reach.warn("the group is gone")
    told.reach.reached()
    told.reach.reached()
    assert [level for level, _ in told.alerts] == ["warning", "resolved"]
    assert told.value("up") == 1


def test_of_many_refusals_the_first_is_told_and_later_how_many_there_were() -> None:
    told = Told()
    for number in range(100):
        told.reach.refused(f"entry {number} is refused", "poison")
    assert told.alerts == [("warning", "entry 0 is refused; it is set aside in poison")]
    told.loop.go(10.0)
    assert told.alerts[1:] == [
        ("warning", "entry 99 is refused; it is set aside in poison (98 more before it)")
    ]
    told.loop.go(20.0)
    told.loop.go(30.0)
    assert len(told.alerts) == 2
    told.reach.refused("entry 100 is refused", "poison")
    assert len(told.alerts) == 3
    assert told.stats.redis_entries == {("redis://h/0", "purges", "refused"): 101}
