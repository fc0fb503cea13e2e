"""What an operator is told of one thing that a door reads: whether it is reached, what is refused, counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from engine.observe.counters import Stats

_EVERY_S: Final = 10.0  #: refusals are told of so often at most
_AGAIN_S: Final = 300.0  #: what goes on failing is told of again


class Reach:
    """Tells of one stream, or of the channels of a door.

    Args:
        name: of the Redis.
        source: what is read: the stream, or the channels.
        stats: counts.
        on_alert: told what an operator should know: key, level, message.
        loop: the engine's.
    """

    def __init__(
        self,
        name: str,
        source: str,
        stats: Stats,
        on_alert: Callable[[str, str, str], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._name = name
        self._source = source
        self._stats = stats
        self._on_alert = on_alert
        self._loop = loop
        self._key = f"door:{name}:{source}"
        self._is_up: bool | None = None
        self._is_warned = False
        self._told = ("", 0.0)
        self._refused = 0  # that have no line yet
        self._last = ("", "")  # of these: why, and where it is
        self._telling: asyncio.TimerHandle | None = None
        stats.redis_doors.setdefault((name, source), {})["up"] = 0.0

    def __repr__(self) -> str:
        return f"<Reach of {self._source} at {self._name}>"

    def count(self, outcome: str, count: int = 1) -> None:
        """Count what became of entries or messages."""
        key = (self._name, self._source, outcome)
        self._stats.redis_entries[key] = self._stats.redis_entries.get(key, 0) + count

    def gauge(self, **values: float) -> None:
        """Note how it stands."""
        self._stats.redis_doors[self._name, self._source].update(values)

    def reached(self) -> None:
        """It can be read."""
        if self._is_up and not self._is_warned:
            return
        if self._is_up is False:
            self.count("reconnects")
        if self._is_up is False or self._is_warned:
            self._on_alert(self._key, "resolved", f"{self._source} is read again from {self._name}")
        self._is_up, self._is_warned = True, False
        self._told = ("", 0.0)
        self.gauge(up=1.0)

    def failed(self, why: str) -> None:
        """It cannot be read; told when that is new, another reason, or has lasted."""
        self._is_up = False
        self.gauge(up=0.0)
        text, at = self._told
        now = self._loop.time()
        if text != why or now - at > _AGAIN_S:
            self._told = (why, now)
            self._on_alert(self._key, "error", f"{self._source} is not read, and is tried again: {why}")

    def warn(self, text: str) -> None:
        """Tell what has happened; it is over when `reached` is told next."""
        self._is_warned = True
        self._on_alert(self._key, "warning", text)

    def not_set_aside(self, why: str, detail: str, where: str, count: int) -> None:
        """Tell of refused ones that cannot be set aside."""
        self.count("not_set_aside", count)
        text = f"what is refused cannot be set aside in {where}: {why}; {detail}"
        self._on_alert(f"poison:{self._source}", "error", text)

    def refused(self, detail: str, where: str) -> None:
        """Tell of one that is set aside; of many in ten seconds the first, and then how many more came."""
        self.count("refused")
        self._refused += 1
        self._last = (detail, where)
        if self._telling is None:
            self._tell_refused()

    def _tell_refused(self) -> None:
        self._telling = None
        if not self._refused:
            return
        detail, where = self._last
        more = f" ({self._refused - 1} more before it)" if self._refused > 1 else ""
        self._on_alert(f"poison:{self._source}", "warning", f"{detail}; it is set aside in {where}{more}")
        self._refused = 0
        self._telling = self._loop.call_later(_EVERY_S, self._tell_refused)
