"""What a silence matches: labels of an alert, compared as Alertmanager's matchers do. Pure.

``node=edge-1`` and ``kind!=node`` compare whole values, ``key=~canary:.*`` and ``layer!~edge|parent`` are
regular expressions of the whole value; see `engine.notify.patterns`. A label that an alert does not have is
empty. All matchers of a silence have to match. A word alone is a key: ``node:edge-1``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.notify.formats import Alert, labels_of
from engine.notify.patterns import MATCHED_MAX_CHARS, pattern_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LABELS: Final = ("key", "kind", "subject", "node", "layer", "instance", "alertname")
KINDS: Final = frozenset(
    {
        *("canary", "clock", "cluster", "delay", "full", "gone", "history", "htcp", "leader", "node"),
        *("objective", "poison", "refused", "replicas", "stale", "store"),
    }
)
VALUE_MAX_CHARS: Final = 200
_MATCHER: Final = re.compile(r"([A-Za-z_]+)(=~|!~|!=|=)(.*)", re.DOTALL)
_TAKES: Final = "takes LABEL=VALUE, LABEL!=VALUE, LABEL=~REGEX, LABEL!~REGEX, or a key such as node:edge-1"


class Matcher(NamedTuple):
    """One comparison."""

    label: str
    value: str | re.Pattern[str]
    is_negative: bool

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether an alert with these labels is meant."""
        found = labels.get(self.label, "")
        if isinstance(self.value, str):
            return (found == self.value) != self.is_negative
        return (self.value.fullmatch(found[:MATCHED_MAX_CHARS]) is not None) != self.is_negative


def matchers_of(texts: Sequence[str]) -> list[Matcher]:
    """Return what *texts* say.

    Raises:
        ValueError: one cannot be read, or alerts of all kinds would match; says which and what it takes.
    """
    matchers = [_matcher_of(text) for text in texts]
    if _all_match(matchers, {}) or all(_all_match(matchers, one) for one in _SAMPLES):
        raise ValueError(
            "every alert would match, or nearly: name its kind, its key or its node, such as kind=node"
        )
    return matchers


def written(text: str) -> str:
    """Return a matcher with its label: of a word alone, that of a key."""
    return text if _MATCHER.fullmatch(text) else f"key={text}"


def _matcher_of(text: str) -> Matcher:
    found = _MATCHER.fullmatch(written(text))
    if found is None or not text or len(text) > VALUE_MAX_CHARS:
        raise ValueError(f"{text[:VALUE_MAX_CHARS]!r}: {_TAKES}, of at most {VALUE_MAX_CHARS} characters")
    label, operator, value = found.groups()
    if label not in LABELS:
        raise ValueError(f"{text!r}: alerts have no label {label!r}; they have {', '.join(LABELS)}")
    try:
        compared = pattern_of(value) if "~" in operator else value
    except ValueError as exc:
        raise ValueError(f"{text!r}: {exc}") from None
    return Matcher(label, compared, operator.startswith("!"))


def _all_match(matchers: Sequence[Matcher], labels: Mapping[str, str]) -> bool:
    return all(matcher.matches(labels) for matcher in matchers)


def all_labels(alert: Alert) -> dict[str, str]:
    """Return what an alert is matched by."""
    kind, _, subject = alert.key.partition(":")
    return {**labels_of(alert), "kind": kind, "subject": subject}


_SAMPLES: Final = [
    all_labels(Alert(key, "error", "", {}, 0.0, "a-sample.invalid"))
    for kind in sorted(KINDS)
    for key in (kind, f"{kind}:x")
]
