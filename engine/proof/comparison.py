"""Whether what a visitor gets is what it should be. Pure.

Beside the origin's own answer, the first rule that both answers have something for decides:

1. ``etag``: strong entity tags (RFC 9110, section 8.8.3). Weak ones say too little.
2. ``last_modified``: with the length, where the body of neither says otherwise: its unit is a second.
3. ``digest``: SHA-256 of the bodies; of what they hold, where one cache packs and the other does not.

Bodies that are equal are equal, whatever their fields say: several origins may tag the same page differently.
Of answers without content, 404 and the like, the ``status`` decides, of a redirect with its target.

Without an origin there is ``time`` alone: the object was stored after the ack. It says nothing of the
content, and an ``Age`` that is too high proves nothing either, because a cache counts the time by its own
clock from the ``Date`` of an origin, whose clock may be wrong. So time verifies, or leaves it open. That a
cache fetched its answer just now shows as much only when no cache behind it says that it had it.

Source: RFC 9111, section 4.2.3 (how a cache makes an ``Age``); RFC 9211, section 2 (``Cache-Status``).
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.proof.seen import Seen

_OK: Final = 200
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_GONE: Final = frozenset({404, 410})
_SAID_OF_CONTENT: Final = frozenset({_OK, 203}) | _REDIRECTS | _GONE | {204, 451}
FROZEN_AGE: Final = frozenset({"nginx"})
"""Drivers whose cache keeps the ``Age`` of what it fetched as a field like any other, and adds nothing."""
_FETCHED: Final = re.compile(r";\s*fwd\s*=\s*(uri-miss|vary-miss|miss|stale|method|request|bypass)\b")
_OLDER: Final = re.compile(r";\s*(hit|collapsed)\s*(;|,|$)|;\s*fwd-status\s*=\s*5\d\d\b")
"""What says that an answer may be of before its request: out of a cache on the way, of a fetch that had begun
for others, or kept because the origin was in trouble."""

_BY_EACH_CACHE: Final = ("via", "cache-status", "x-cache", "x-cache-status", "x-varnish")
"""Fields in which each cache on the way names itself, behind those before."""
_VIA: Final = {"ats": "trafficserver", "squid": "squid", "varnish": "varnish"}
"""Driver → what its cache calls itself in ``Via``."""


class Verdict(enum.StrEnum):
    """What a comparison came to."""

    VERIFIED = "verified"
    STALE = "stale"
    UNVERIFIABLE = "unverifiable"


class Rule(enum.StrEnum):
    """By what it was decided."""

    ETAG = "etag"
    LAST_MODIFIED = "last_modified"
    DIGEST = "digest"
    STATUS = "status"
    TIME = "time"
    NONE = "none"


class Judgement(NamedTuple):
    """A verdict, by which rule, and why in the words of an error; empty when it is verified."""

    verdict: Verdict
    rule: Rule
    reason: str = ""


def compare(seen: Seen, truth: Seen) -> Judgement:
    """Return whether a visitor's answer is the origin's, asked with the same ``Accept-Encoding``."""
    for who, answer in (("a visitor", seen), ("the origin", truth)):
        if answer.status not in _SAID_OF_CONTENT:
            what = (
                f"{who} is answered {answer.status}" if answer is seen else f"{who} answers {answer.status}"
            )
            return Judgement(Verdict.UNVERIFIABLE, Rule.NONE, what)
    if seen.status != truth.status:
        return _differs(Rule.STATUS, f"still answers {seen.status}, the origin {truth.status}")
    if seen.status in _REDIRECTS:
        return _compared(Rule.STATUS, seen.field("location"), truth.field("location"), "redirects to")
    if seen.status in _GONE:
        return _verified(Rule.STATUS)
    return _compare_content(seen, truth)


def _compare_content(seen: Seen, truth: Seen) -> Judgement:
    if seen.strong_etag and truth.strong_etag and seen.strong_etag == truth.strong_etag:
        return _verified(Rule.ETAG)
    is_same = _same_body(seen, truth)
    has_both = bool(seen.last_modified and truth.last_modified)
    if is_same:
        by_date = has_both and seen.last_modified == truth.last_modified
        return _verified(Rule.LAST_MODIFIED if by_date else Rule.DIGEST)
    if seen.strong_etag and truth.strong_etag:
        if seen.content_encoding != truth.content_encoding and is_same is None:
            return Judgement(Verdict.UNVERIFIABLE, Rule.NONE, _packed_otherwise(seen, truth))
        return _differs(Rule.ETAG, f"still serves ETag {seen.etag}, the origin has {truth.etag}")
    if has_both and seen.last_modified != truth.last_modified:
        return _differs(
            Rule.LAST_MODIFIED,
            f"still serves Last-Modified {seen.last_modified}, the origin has {truth.last_modified}",
        )
    if is_same is not None:
        return _differs(
            Rule.DIGEST,
            f"still serves SHA-256 {seen.content_digest[:12]}…, the origin has {truth.content_digest[:12]}…",
        )
    return _compare_length(seen, truth, has_both=has_both)


def _compare_length(seen: Seen, truth: Seen, *, has_both: bool) -> Judgement:
    """Compare bodies of which no digest is there: too long to be read, or packed in ways unknown."""
    if seen.content_encoding != truth.content_encoding:
        return Judgement(Verdict.UNVERIFIABLE, Rule.NONE, _packed_otherwise(seen, truth))
    mine, theirs = _length(seen), _length(truth)
    if mine and theirs and mine != theirs:
        return _differs(Rule.LAST_MODIFIED, f"still serves {mine} bytes, the origin has {theirs}")
    if has_both and mine and theirs:
        return _verified(Rule.LAST_MODIFIED)
    why = "the answer is longer than body_max_bytes, and has neither a strong ETag nor a Last-Modified"
    return Judgement(Verdict.UNVERIFIABLE, Rule.NONE, why)


def judge_by_time(seen: Seen, driver: str, acked_s: float) -> Judgement:
    """Return whether an answer was stored after the ack: all that can be told without an origin.

    Args:
        seen: the answer.
        driver: of the node.
        acked_s: from the ack until the answer was asked for.
    """
    if seen.status not in _SAID_OF_CONTENT:
        return Judgement(Verdict.UNVERIFIABLE, Rule.NONE, f"a visitor is answered {seen.status}")
    nearest = seen.cache_status.rpartition(",")[2]
    if _FETCHED.search(nearest) and not _OLDER.search(seen.cache_status):
        return _verified(Rule.TIME)
    age_s = seen.age_s
    if age_s is None or driver in FROZEN_AGE:
        why = f"no [[origin]] to compare with, and {'no' if age_s is None else 'nginx keeps the'} Age"
        return Judgement(Verdict.UNVERIFIABLE, Rule.NONE, why)
    if age_s + 1 <= acked_s:  # it is cut off, not rounded
        return _verified(Rule.TIME)
    why = f"no [[origin]] to compare with, and its Age ({age_s} s) does not show that it is new"
    return Judgement(Verdict.UNVERIFIABLE, Rule.NONE, why)


def stored_before(seen: Seen, driver: str, acked_s: float) -> str:
    """Return when what a visitor still gets was stored, as words behind a reason; empty: nobody knows."""
    age_s = seen.age_s
    if age_s is None or driver in FROZEN_AGE or age_s <= acked_s:
        return ""
    return f"; stored {age_s - acked_s:.0f} s before the purge"


def is_of_one_cache(seen: Seen, driver: str, origins: Iterable[Seen]) -> bool:
    """Tell whether no other cache shows in an answer, so that its ``Age`` is how long the node has had it.

    ``Age`` adds up over all caches on the way (RFC 9111, section 4.2.3).

    Args:
        seen: the answer.
        driver: of the node.
        origins: what the origin answered; one with an ``Age`` is a cache itself.
    """
    via = seen.field("via").lower()
    if (via and _VIA.get(driver, "") not in via) or (driver != "varnish" and seen.field("x-varnish")):
        return False
    if any("," in seen.field(name) for name in _BY_EACH_CACHE):
        return False
    return not any(has.field(name) for has in origins for name in ("age", *_BY_EACH_CACHE))


def _same_body(seen: Seen, truth: Seen) -> bool | None:
    """Tell whether two bodies are equal; None: nobody can."""
    if seen.digest and truth.digest and seen.content_encoding == truth.content_encoding:
        return seen.digest == truth.digest or (
            bool(seen.content_digest) and seen.content_digest == truth.content_digest
        )
    if seen.content_digest and truth.content_digest:
        return seen.content_digest == truth.content_digest
    return None


def _length(seen: Seen) -> int:
    """Return how long a body is, as far as it is known; 0: nobody knows."""
    if seen.is_whole:
        return seen.body_bytes
    length = seen.field("content-length")
    return int(length) if length.isascii() and length.isdecimal() else 0


def _packed_otherwise(seen: Seen, truth: Seen) -> str:
    mine, theirs = seen.content_encoding or "no", truth.content_encoding or "no"
    return f"the answer has {mine} Content-Encoding, the origin's has {theirs}"


def _compared(rule: Rule, mine: str, theirs: str, what: str) -> Judgement:
    if mine == theirs:
        return _verified(rule)
    return _differs(rule, f"still {what} {mine or 'nothing'}, the origin {theirs or 'to nothing'}")


def _verified(rule: Rule) -> Judgement:
    return Judgement(Verdict.VERIFIED, rule)


def _differs(rule: Rule, reason: str) -> Judgement:
    return Judgement(Verdict.STALE, rule, reason)
