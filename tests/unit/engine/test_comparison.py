"""Two answers in; whether the visitor's is the origin's, and by which rule."""

from __future__ import annotations

import hashlib

import pytest

from engine.proof.comparison import Rule, Verdict, compare, is_of_one_cache, judge_by_time, stored_before
from engine.proof.seen import Seen

OLD, NEW = "Sat, 28 Nov 2026 10:00:00 GMT", "Sat, 28 Nov 2026 11:00:00 GMT"


def seen(body: str = "v1", status: int = 200, *, content: str | None = None, **fields: str) -> Seen:
    """Return an answer; *content*: what a packed body holds."""
    digest = hashlib.sha256(body.encode()).hexdigest()
    held = digest if content is None else hashlib.sha256(content.encode()).hexdigest() if content else ""
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return Seen(status=status, fields=named, body_bytes=len(body), digest=digest, content_digest=held)


def long(length: int, **fields: str) -> Seen:
    """Return an answer whose body was too long to be read."""
    named = {name.replace("_", "-"): value for name, value in fields.items()} | {
        "content-length": str(length)
    }
    return Seen(status=200, fields=named, body_bytes=10, is_whole=False)


VERIFIED = [
    ("equal strong tags", seen("a", etag='"1"'), seen("b", etag='"1"'), Rule.ETAG),
    ("other tags, equal bodies", seen(etag='"1"'), seen(etag='"2"'), Rule.DIGEST),
    ("weak tags, equal bodies", seen(etag='W/"1"'), seen(etag='W/"1"'), Rule.DIGEST),
    ("equal dates and bodies", seen(last_modified=OLD), seen(last_modified=OLD), Rule.LAST_MODIFIED),
    ("equal dates and lengths", long(9, last_modified=OLD), long(9, last_modified=OLD), Rule.LAST_MODIFIED),
    ("packed by the cache", seen("gz", content="v1", content_encoding="gzip"), seen("v1"), Rule.DIGEST),
    ("packed anew", *(seen(gz, content="v1", content_encoding="gzip") for gz in ("x", "y")), Rule.DIGEST),
    ("both gone", seen("no", 404), seen("not here", 404), Rule.STATUS),
    ("the same redirect", seen(status=302, location="/b"), seen("x", 302, location="/b"), Rule.STATUS),
]
STALE = [
    (
        "other tags",
        seen("v1", etag='"a1"'),
        seen("v2", etag='"b7"'),
        Rule.ETAG,
        'ETag "a1", the origin has "b7"',
    ),
    ("other tags, too long", long(9, etag='"1"'), long(9, etag='"2"'), Rule.ETAG, "ETag"),
    ("other dates", seen("v1", last_modified=OLD), seen("v2", last_modified=NEW), Rule.LAST_MODIFIED, OLD),
    ("twice in one second", seen("v1", last_modified=OLD), seen("v2", last_modified=OLD), Rule.DIGEST, "SHA"),
    ("equal weak tags", seen("v1", etag='W/"1"'), seen("v2", etag='W/"1"'), Rule.DIGEST, "SHA-256"),
    ("other lengths", long(9), long(8), Rule.LAST_MODIFIED, "9 bytes, the origin has 8"),
    ("gone at the origin", seen(), seen("no", 404), Rule.STATUS, "still answers 200, the origin 404"),
    ("moved on", seen(status=302, location="/a"), seen(status=302, location="/b"), Rule.STATUS, "/a, the"),
    ("gone in the cache alone", seen("no", 404), seen(), Rule.STATUS, "still answers 404, the origin 200"),
]
OPEN = [
    ("a node in trouble", seen(status=503), seen(), "a visitor is answered 503"),
    ("an origin in trouble", seen(), seen(status=502), "the origin answers 502"),
    ("a login", seen(status=401), seen(), "401"),
    (
        "packed in unknown ways",
        seen("x", content="", content_encoding="br"),
        seen("v1"),
        "br Content-Encoding",
    ),
    ("too long, without fields", long(9), long(9), "longer than body_max_bytes"),
]


@pytest.mark.parametrize(("what", "mine", "truth", "rule"), VERIFIED)
def test_what_is_equal_is_verified(what: str, mine: Seen, truth: Seen, rule: Rule) -> None:
    assert compare(mine, truth) == (Verdict.VERIFIED, rule, "")


@pytest.mark.parametrize(("what", "mine", "truth", "rule", "why"), STALE)
def test_what_differs_is_stale(what: str, mine: Seen, truth: Seen, rule: Rule, why: str) -> None:
    verdict, by, reason = compare(mine, truth)
    assert (verdict, by) == (Verdict.STALE, rule)
    assert why in reason


@pytest.mark.parametrize(("what", "mine", "truth", "why"), OPEN)
def test_what_cannot_be_told_is_left_open(what: str, mine: Seen, truth: Seen, why: str) -> None:
    verdict, by, reason = compare(mine, truth)
    assert (verdict, by) == (Verdict.UNVERIFIABLE, Rule.NONE)
    assert why in reason


@pytest.mark.parametrize(
    ("answer", "driver", "acked_s", "is_verified"),
    [
        (seen(age="0"), "varnish", 1.001, True),
        (seen(age="0"), "varnish", 0.9, False),  # it may be 0.95
        (seen(age="311"), "varnish", 2.0, False),  # or the cache's clock is wrong
        (seen(age="0"), "nginx", 5.0, False),  # of its parent, when it was fetched
        (seen(age="-1"), "ats", 5.0, False),
        (seen(age="0, 5"), "ats", 5.0, False),
        (seen(), "squid", 5.0, False),
        (seen(cache_status="parent; fwd=miss, edge; fwd=uri-miss; stored"), "nginx", 0.01, True),
        (seen(cache_status="edge;fwd=stale;fwd-status=200"), "squid", 0.01, True),
        (seen(cache_status="parent; hit, edge; fwd=uri-miss; stored"), "nginx", 0.01, False),
        (seen(cache_status="parent;hit;detail=match, edge;fwd=miss", age="311"), "squid", 2.0, False),
        (seen(cache_status="parent;hit, edge;fwd=miss", age="0"), "squid", 1.5, True),
        (seen(cache_status="edge; fwd=miss; collapsed"), "nginx", 0.01, False),
        (seen(cache_status="edge; fwd=stale; fwd-status=503"), "nginx", 0.01, False),
        (seen(cache_status="parent; fwd=miss, edge; hit"), "nginx", 5.0, False),
        (seen(status=503, age="0"), "varnish", 5.0, False),
    ],
)
def test_without_an_origin_time_verifies_or_leaves_open(
    answer: Seen, driver: str, acked_s: float, is_verified: bool
) -> None:
    verdict, rule, _ = judge_by_time(answer, driver, acked_s)
    assert (verdict, rule) == (
        (Verdict.VERIFIED, Rule.TIME) if is_verified else (Verdict.UNVERIFIABLE, Rule.NONE)
    )


def test_when_it_was_stored_is_said_where_the_cache_counts_it() -> None:
    assert stored_before(seen(age="313"), "varnish", 2.0) == "; stored 311 s before the purge"
    assert stored_before(seen(age="313"), "nginx", 2.0) == ""
    assert stored_before(seen(age="1"), "varnish", 2.0) == ""


@pytest.mark.parametrize(
    ("driver", "fields", "is_own"),
    [
        ("varnish", {}, True),
        ("varnish", {"via": "1.1 edge-1 (Varnish/7.1)", "x-varnish": "5 3"}, True),
        ("varnish", {"via": "1.1 shield (Varnish/7.1), 1.1 edge-1 (Varnish/7.1)"}, False),
        ("varnish", {"via": "1.1 a1b2.cloudfront.net (CloudFront)"}, False),
        ("varnish", {"x-varnish": "5 3, 7"}, False),
        ("ats", {"via": "http/1.1 edge-1 (ApacheTrafficServer/9.2.0)"}, True),
        ("ats", {"via": "1.1 shield (Varnish/7.1)"}, False),
        ("ats", {"x-varnish": "5 3"}, False),
        ("squid", {"x-cache": "HIT from edge-1", "via": "1.1 edge-1 (squid/5.7)"}, True),
        ("squid", {"x-cache": "HIT from shield, HIT from edge-1"}, False),
        ("squid", {"cache-status": "shield; hit, edge-1; hit"}, False),
    ],
)
def test_an_age_is_of_the_node_alone_where_no_other_cache_shows(
    driver: str, fields: dict[str, str], is_own: bool
) -> None:
    answer = Seen(status=200, fields=fields)
    assert is_of_one_cache(answer, driver, [Seen(status=200)]) is is_own
    assert not is_of_one_cache(answer, driver, [Seen(status=200, fields={"age": "0"})]), "a shield"
