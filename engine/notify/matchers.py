"""What a silence matches: labels of an alert, compared as Alertmanager's matchers do. Pure.

``node=edge-1`` and ``kind!=node`` compare whole values, ``key=~canary:.*`` and ``layer!~edge|parent`` are
regular expressions of the whole value. A label that an alert does not have is empty. All matchers of a
silence have to match. A word alone is a key: ``node:edge-1``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.notify.formats import labels_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.notify.formats import Alert

LABELS: Final = ("key", "kind", "subject", "node", "layer", "instance", "alertname")
VALUE_MAX_CHARS: Final = 200
_MATCHER: Final = re.compile(r"([A-Za-z_]+)(=~|!~|!=|=)(.*)", re.DOTALL)
_TAKES: Final = "takes LABEL=VALUE, LABEL!=VALUE, LABEL=~REGEX, LABEL!~REGEX, or a key such as node:edge-1"


class Matcher(NamedTuple):
    """One comparison."""

    label: str
    pattern: re.Pattern[str]
    is_negative: bool

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether an alert with these labels is meant."""
        return (self.pattern.fullmatch(labels.get(self.label, "")) is not None) != self.is_negative


def matchers_of(texts: Sequence[str]) -> list[Matcher]:
    """Return what *texts* say.

    Raises:
        ValueError: one cannot be read, or all alerts would match; says which and what it takes.
    """
    matchers = [_matcher_of(text) for text in texts]
    if all(matcher.matches({}) for matcher in matchers):
        raise ValueError("every alert would match: name its kind, its key or its node, such as kind=node")
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
        pattern = re.compile(value if "~" in operator else re.escape(value), re.DOTALL)
    except (re.error, RecursionError, OverflowError) as exc:
        raise ValueError(f"{text!r}: is no regular expression: {exc}") from None
    return Matcher(label, pattern, operator.startswith("!"))


def all_labels(alert: Alert) -> dict[str, str]:
    """Return what an alert is matched by."""
    kind, _, subject = alert.key.partition(":")
    return {**labels_of(alert), "kind": kind, "subject": subject}
