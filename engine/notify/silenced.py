"""Alerts that silences keep from being sent: held back, and sent when the silence ends before they do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from engine.notify.formats import is_moment, moment
from engine.notify.matchers import all_labels, matchers_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from engine.base.timer import Timer
    from engine.notify.formats import Alert
    from engine.notify.matchers import Matcher
    from engine.tasks.records import Silence

HELD_MAX: Final = 10_000
LOOK_S: Final = 30.0  #: so often it is looked for ends: the clock of the machine may be set
_TIMED: Final = ("alert", "silences")


class _Held(NamedTuple):
    alert: Alert
    labels: Mapping[str, str]
    silence: Silence


class Silenced:
    """Holds back what is silenced. Belongs to the loop's thread.

    Args:
        timer: for the ends of silences.
        send: sends one alert whose silence is over.
    """

    def __init__(self, timer: Timer, send: Callable[[Alert], None]) -> None:
        self._timer = timer
        self._send = send
        self._active: list[tuple[Silence, list[Matcher]]] = []
        self._held: dict[str, _Held] = {}

    def __len__(self) -> int:
        """Return how many alerts are held back."""
        return len(self._held)

    def close(self) -> None:
        """Look for ends no more."""
        self._timer.cancel(_TIMED)

    def update(self, silences: Iterable[Silence], told: Iterable[Alert]) -> None:
        """Do as *silences* say from now on.

        Args:
            silences: all there are; those that are over are not looked at.
            told: what was sent last of each key: what of it goes on is sent again after its silence.
        """
        now = time.time()
        self._active = [(one, matchers_of(one.matchers)) for one in silences if one.until > now]
        if self._active:
            for alert in told:
                if alert.level != "resolved" and alert.key not in self._held:
                    self.keeps(msgspec.structs.replace(alert))
        self._look()

    def take(self, alert: Alert, told: Alert | None) -> Silence | None:
        """Hold an alert back that has come; return the silence, or None: it is to be sent.

        Args:
            alert: `since` is set to when it began, as far as that is known here.
            told: what was sent last of its key.
        """
        if not self._active and not self._held:
            return None
        self._look()
        before = self._held.get(alert.key)
        labels = all_labels(alert)
        if before is not None and alert.level == "resolved":
            labels = {**before.labels, **labels}  # the facts of an end are fewer
        silence = self._silence_of(labels)
        if silence is None:
            self._held.pop(alert.key, None)
            return None
        last = told if before is None else before.alert
        if last is not None and last.level != "resolved":
            alert.since = last.since
        if alert.level == "resolved" and (told is None or told.level == "resolved"):
            self._held.pop(alert.key, None)  # nobody has heard of it
        else:
            self._hold(_Held(alert, labels, silence))
        return silence

    def keeps(self, alert: Alert) -> bool:
        """Tell whether an alert that was about to be sent is silenced by now, and hold it back then."""
        if not self._active:
            return False
        labels = all_labels(alert)
        silence = self._silence_of(labels)
        if silence is None:
            return False
        self._hold(_Held(alert, labels, silence))
        return True

    def shown(self) -> list[dict[str, Any]]:
        """Return what is held back, and by which silence."""
        return [
            {
                "key": held.alert.key,
                "level": held.alert.level,
                "message": held.alert.message,
                "since": round(held.alert.since, 3),
                "silence": held.silence.id,
            }
            for held in self._held.values()
            if held.alert.level != "resolved"
        ]

    def _hold(self, held: _Held) -> None:
        if not is_moment(held.alert.key):
            self._held[held.alert.key] = held
            if len(self._held) > HELD_MAX:
                del self._held[next(iter(self._held))]

    def _silence_of(self, labels: Mapping[str, str]) -> Silence | None:
        now = time.time()
        for silence, matchers in self._active:
            if silence.until > now and all(matcher.matches(labels) for matcher in matchers):
                return silence
        return None

    def _look(self) -> None:
        """Send what no silence holds any more, and come back when the next one ends."""
        for key, held in list(self._held.items()):
            silence = self._silence_of(held.labels)
            if silence is None:
                del self._held[key]
                self._send(_late(held))
            elif silence is not held.silence:
                self._held[key] = held._replace(silence=silence)
        now = time.time()
        self._active = [pair for pair in self._active if pair[0].until > now]
        if self._active:
            ends_in_s = min(silence.until for silence, _ in self._active) - now
            self._timer.add(_TIMED, min(ends_in_s, LOOK_S), self._look)
        else:
            self._timer.cancel(_TIMED)


def _late(held: _Held) -> Alert:
    """Return an alert as it is sent after its silence."""
    alert, silence = held.alert, held.silence
    why = f"was silenced by {silence.by}: {silence.reason}"
    if alert.level == "resolved":
        alert.changed = f"over since {moment(alert.time)}; {why}"
    else:
        alert.changed = f"still on since {moment(alert.since)}; {why}"
        alert.time = time.time()
    return alert
