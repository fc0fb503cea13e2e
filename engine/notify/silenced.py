"""Alerts that silences keep from being sent: held back, and sent when the silence ends before they do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from loguru import logger

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
    is_from_before: bool = False  #: a process before this one may have sent that it is on


class Silenced:
    """Holds back what is silenced. Belongs to the loop's thread.

    Args:
        timer: for the ends of silences.
        send: sends one alert whose silence is over; with True, an end to all receivers, not only to those
            that this process has told that it was on.
    """

    def __init__(self, timer: Timer, send: Callable[[Alert, bool], None]) -> None:
        self._timer = timer
        self._send = send
        self._began_at = time.time()
        self._unusable: set[str] = set()
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
        self._active = [
            (one, matchers)
            for one in silences
            if one.until > now and (matchers := self._matchers_of(one)) is not None
        ]
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
        is_from_before = told is None and (
            silence.at < self._began_at and alert.level != "resolved"
            if before is None
            else before.is_from_before
        )
        if alert.level == "resolved" and not is_from_before and (told is None or told.level == "resolved"):
            self._held.pop(alert.key, None)  # nobody has heard of it
        else:
            self._hold(_Held(alert, labels, silence, is_from_before))
        return silence

    def keeps(self, alert: Alert) -> bool:
        """Tell whether an alert that was about to be sent is silenced by now, and hold it back then.

        What is held of its key already is as new, or newer.
        """
        if not self._active:
            return False
        if alert.key in self._held:
            return True
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
                oldest = next(iter(self._held))
                del self._held[oldest]
                logger.bind(alert=oldest).warning(
                    "silences hold back more than {:,} alerts: the oldest is not sent when its silence ends",
                    HELD_MAX,
                )

    def _matchers_of(self, silence: Silence) -> list[Matcher] | None:
        """Return what a silence of the store matches; None: another version wrote what is not taken here."""
        try:
            return matchers_of(silence.matchers)
        except ValueError as exc:
            if silence.id not in self._unusable:
                self._unusable.add(silence.id)
                logger.warning("silence {} keeps no alert from being sent: {}", silence.id, exc)
            return None

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
                self._send(_late(held), held.is_from_before)
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
