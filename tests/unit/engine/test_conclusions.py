"""Why visitors get what they get, decided without any cache."""

from __future__ import annotations

import re
from typing import Any

import pytest

from engine.config.tables import NodeConfig
from engine.proof.comparison import compare
from engine.proof.conclusions import NodeState, conclude
from engine.proof.covering import Purge, covering
from engine.proof.glance import Glance, Served, Truth, hit_of
from engine.proof.seen import Seen
from engine.proof.whole import Conclusion, Told

URL = "http://img.example.com/a?x=1&y=2"
NOW = 1_795_473_000.0
READY = NodeState("ready", "", "")


def seen(etag: str, **fields: str) -> Seen:
    return Seen(status=200, fields={"etag": f'"{etag}"', **fields}, digest=etag * 8, content_digest=etag * 8)


def glance(
    name: str, *etags: str, driver: Any = "varnish", parents: list[str] | None = None, **more: Any
) -> Glance:
    """Return what a node serves: an answer for each ETag; the origin has ``b``."""
    node = NodeConfig(name=name, driver=driver, url="http://127.0.0.1:1", parents=parents or [])
    fields = more.pop("fields", {})
    answers = [
        Served("" if place == 0 else "gzip", seen(etag, **fields), compare(seen(etag), seen("b")))
        for place, etag in enumerate(etags)
    ]
    return Glance(node, answers, at=NOW, **more)


def document(
    task_id: str = "t-1", kind: str = "url", targets: list[str] | None = None, **nodes: Any
) -> dict[str, Any]:
    """Return the document of a purge; of each node its counts."""
    blank = {"total": 1, "acked": 0, "absent": 0, "failed": 0, "delayed": 0, "cancelled": 0, "acked_at": None}
    errors = [
        {"node": name, "target": (targets or [URL])[0], "reason": counts.pop("reason")}
        for name, counts in nodes.items()
        if "reason" in counts
    ]
    return {
        "task_id": task_id,
        "action": "purge",
        "kind": kind,
        "state": "partial" if errors else "running",
        "by": {},
        "created_at": NOW - 100,
        "settled_at": None,
        "start_at": None,
        "targets": targets or [URL],
        "target_count": len(targets or [URL]),
        "errors": errors,
        "nodes": [{"name": name, **blank, **counts} for name, counts in nodes.items()],
    }


def acked(ago_s: float = 50, **more: Any) -> dict[str, Any]:
    return {"acked": 1, "acked_at": NOW - ago_s, **more}


def told(
    glances: list[Glance],
    *documents: dict[str, Any],
    states: dict[str, NodeState] | None = None,
    **more: Any,
) -> tuple[dict[str, Told], Told]:
    purges: list[Purge] = covering(documents, URL)
    truth = Truth({"": seen("b")})
    found = {one.node.name: READY for one in glances} | (states or {})
    return conclude(URL, glances, truth, purges, found, **more)


@pytest.mark.parametrize(
    ("one", "node", "state", "conclusion", "says"),
    [
        (glance("e", "b"), None, READY, "fresh", "serves what the origin has"),
        (glance("e", "b", filled=True), None, READY, "not_cached", "this look has filled it"),
        (glance("e", has_none=True), None, READY, "not_cached", "prefetch --node e 'http"),
        (glance("e", error="refused"), None, READY, "unreachable", "e gave visitors no answer at"),
        (glance("e", "a"), None, READY, "never_purged", "the engine knows of no purge of the page on e"),
        (glance("e", "a"), {}, READY, "pending", "purge t-1 of"),
        (glance("e", "a"), {"delayed": 1, "reason": "down"}, READY, "delayed", "waits for e (down)"),
        (
            glance("e", "a"),
            {"delayed": 1},
            NodeState("paused", "paused by ann", ""),
            "delayed",
            "purgeline resume e`",
        ),
        (glance("e", "a"), {"failed": 1, "reason": "gone"}, READY, "failed", "failed at e (gone)"),
        (glance("e", "a"), {"cancelled": 1}, READY, "never_purged", "was cancelled"),
        (glance("e", "a"), {"delayed": 1}, NodeState("refusing", "", "403"), "refused", "e refuses purge"),
        (glance("e", "a"), {"delayed": 1}, NodeState("unproven", "no mark", ""), "unproven", "(no mark)"),
        (glance("e", "a"), acked(), READY, "stale_after_purge", "--rebound 5"),
        (glance("e", "a"), acked(absent=1), READY, "stale_after_purge", "purgeline render varnish --node e"),
        (glance("e", "b", "a"), acked(), READY, "variant", "with Accept-Encoding gzip"),
        (
            glance("e", "b", "a", fields={"age": "20"}),
            acked(50),
            READY,
            "never_purged",
            "stored this page 20 s",
        ),
        (glance("e", error="left alone", is_held=True), None, READY, "unproven", "e was not asked"),
        (glance("e", error="left alone", is_held=True), acked(), READY, "unproven", "left alone, and it may"),
        (glance("e", error="left alone", is_held=True), {"failed": 1}, READY, "failed", "failed at e"),
        (
            glance("e", "a", driver="nginx", fields={"vary": "Cookie"}),
            acked(absent=1),
            READY,
            "variant",
            "Cookie",
        ),
        (
            glance("e", "a", fields={"age": "20"}),
            acked(50),
            READY,
            "never_purged",
            "stored this page 20 s ago",
        ),
        (
            glance("e", "a", fields={"age": "50"}),
            acked(50),
            READY,
            "stale_after_purge",
            "e acked purge t-1 at",
        ),
        (glance("e", "a", fields={"age": "70"}), acked(50), READY, "stale_after_purge", "had for 20 s then"),
        (glance("e", "a", driver="nginx", fields={"age": "1"}), acked(50), READY, "stale_after_purge", "e"),
    ],
)
def test_one_node(
    one: Glance, node: dict[str, Any] | None, state: NodeState, conclusion: str, says: str
) -> None:
    documents = [] if node is None else [document(e=dict(node))]
    by_name, whole = told([one], *documents, states={"e": state})
    assert by_name["e"].conclusion == whole.conclusion == conclusion
    assert says in by_name["e"].sentence
    assert len(re.findall("`purgeline [^`]+`", by_name["e"].sentence)) == (
        "nothing is to be done" not in by_name["e"].sentence
    )
    assert "e" in whole.sentence


def test_the_last_purge_of_the_node_counts_and_that_of_others_is_named() -> None:
    both = document("old", e=acked(80), p=acked(80)), document("new", p=acked(10))
    by_name, _ = told([glance("p", "b"), glance("e", "a")], both[1], both[0])
    assert "e acked purge old at" in by_name["e"].sentence
    by_name, _ = told([glance("p", "b"), glance("e", "a")], both[1])
    assert by_name["e"].conclusion is Conclusion.NEVER_PURGED
    assert "purge new of" in by_name["e"].sentence
    assert "went to other nodes than e" in by_name["e"].sentence


@pytest.mark.parametrize(
    ("parent", "edge", "whole", "of_parent"),
    [
        (acked(), acked(), "refilled_from_stale_parent", "stale_after_purge"),
        ({"delayed": 1}, {"delayed": 1}, "refilled_from_stale_parent", "delayed"),
        ({"failed": 1}, acked(), "refilled_from_stale_parent", "failed"),
        ({}, {}, "pending", "pending"),
        (None, acked(), "refilled_from_stale_parent", "never_purged"),
        (None, None, "never_purged", "never_purged"),
    ],
)
def test_an_edge_below_a_stale_parent(
    parent: dict[str, Any] | None, edge: dict[str, Any] | None, whole: str, of_parent: str
) -> None:
    nodes = {name: counts for name, counts in (("p", parent), ("e", edge)) if counts is not None}
    documents = [document("t-1", "url", [URL], **nodes)] if nodes else []
    by_name, found = told([glance("p", "a"), glance("e", "a", parents=["p"])], *documents)
    assert (found.conclusion, by_name["p"].conclusion) == (whole, of_parent)
    if whole == "refilled_from_stale_parent":
        assert ": it fetched the page from p, which has the old one, because " in found.sentence
    by_name, found = told([glance("p", "c"), glance("e", "a", parents=["p"])], *documents)
    assert by_name["e"].conclusion != "refilled_from_stale_parent", "the parent has another old page"


def test_without_an_origin_age_alone_shows_that_an_answer_is_new() -> None:
    for age, conclusion in (("20", "fresh"), ("70", "unproven"), ("", "unproven")):
        one = glance("e", "a", fields={"age": age} if age else {})
        one.answers[0].judgement = None
        by_name, _ = told([one], document(e=acked(50)))
        assert by_name["e"].conclusion == conclusion, age


def unknown(name: str, **more: Any) -> Glance:
    """Return what a node serves that is compared with nothing."""
    one = glance(name, "a", **more)
    one.answers[0].judgement = None
    return one


def test_an_age_is_never_called_proof_of_the_content() -> None:
    by_age, purge = unknown("e", fields={"age": "20"}), document(e=acked(50), p=acked(50))
    by_name, whole = told([by_age], purge)
    assert whole.conclusion == "fresh"
    for sentence in (whole.sentence, by_name["e"].sentence):
        assert "serves what it stored after its purge" in sentence
        assert "because the host has no [[origin]]" in sentence
        assert f"give the host one, reload the engine, then: `purgeline why '{URL}'`" in sentence
        assert "what the origin has" not in sentence
        assert "nothing is to be done" not in sentence
    _, whole = told([glance("p", "b"), by_age], purge)
    assert "what the origin has, or (1 of them) what it stored after its purge, by its Age" in whole.sentence
    _, whole = told([glance("p", "b"), glance("e", "b")], purge)
    assert whole.sentence.startswith("every node serves what the origin has, as seen at ")
    truth = Truth({}, "the origin answered 503")
    _, whole = conclude(URL, [by_age], truth, covering([purge], URL), {"e": READY})
    assert "because the origin answered 503; when it answers again: `purgeline why" in whole.sentence


@pytest.mark.parametrize(
    ("node", "state", "conclusion"),
    [
        ({"failed": 1}, READY, "failed"),
        ({"delayed": 1}, NodeState("paused", "paused by ann", ""), "delayed"),
        ({}, READY, "pending"),
        (acked(), READY, "stale_after_purge"),
        ({"cancelled": 1}, READY, "never_purged"),
        ({"delayed": 1}, NodeState("unproven", "no mark", ""), "unproven"),
    ],
)
def test_a_node_of_which_nothing_is_known_hides_no_other(
    node: dict[str, Any], state: NodeState, conclusion: str
) -> None:
    held = glance("f", error="left alone", is_held=True)
    purge = document(e=acked(), f=acked(), g=dict(node))
    by_name, whole = told([unknown("e"), held, glance("g", "a")], purge, states={"g": state})
    assert [by_name[name].conclusion for name in "efg"] == ["unproven", "unproven", conclusion]
    assert whole == by_name["g"]
    _, whole = told([unknown("e"), glance("g", error="refused")], purge)
    assert whole.conclusion == "unreachable"
    _, whole = told([glance("g", "b"), unknown("e")], document(e=acked(), g=acked()))
    assert "e serves" in whole.sentence, "it comes before what is fresh"


def test_an_age_that_another_cache_may_have_counted_does_not_show_what_a_node_had() -> None:
    ways: list[dict[str, Any]] = [
        {"parents": ["p"], "fields": {"age": "300"}},
        {"fields": {"age": "300", "via": "1.1 shield (Varnish/7.1), 1.1 e (Varnish/7.1)"}},
    ]
    for way in ways:
        one = glance("e", "a", **way)
        by_name, _ = told([glance("p", "b"), one], document(e=acked(50), p=acked(50)))
        assert by_name["e"].conclusion == "stale_after_purge"
        assert "from a fetch that had begun before the purge" in by_name["e"].sentence
        assert "--rebound 5" in by_name["e"].sentence
        assert "by its Age" not in by_name["e"].sentence
    shield = Truth({"": Seen(status=200, fields={"age": "3"})})
    one = glance("e", "a", fields={"age": "300"})
    by_name, _ = conclude(URL, [one], shield, covering([document(e=acked(50))], URL), {"e": READY})
    assert "--rebound 5" in by_name["e"].sentence


def test_where_purges_may_be_missing_none_is_said_to_have_come_without_it() -> None:
    limits = "of those that could be looked at (a worker is away)"
    for one, documents in (
        (glance("e", "a"), []),
        (glance("e", "a"), [document(p=acked())]),
        (glance("e", "a", fields={"age": "20"}), [document(e=acked())]),
    ):
        by_name, _ = told([one], *documents, incomplete="a worker is away")
        assert by_name["e"].conclusion == "never_purged"
        assert limits in by_name["e"].sentence
        by_name, _ = told([one], *documents)
        assert "looked at" not in by_name["e"].sentence


def test_an_origin_in_trouble_is_no_reason_to_purge_what_may_be_the_last_copy() -> None:
    for truth in (Truth({}, "the origin answered 503"), Truth({"": Seen(status=503)})):
        one = glance("e", "a")
        one.answers[0].judgement = None
        by_name, _ = conclude(URL, [one], truth, covering([document(e=acked())], URL), {"e": READY})
        assert by_name["e"].conclusion == "unproven"
        assert f"`purgeline why '{URL}'`" in by_name["e"].sentence
        assert "purgeline purge" not in by_name["e"].sentence


@pytest.mark.parametrize(
    ("kind", "target", "match", "is_sure"),
    [
        ("url", "http://img.example.com/a?x=1&y=2", True, True),
        ("url", "https://img.example.com/a?x=1&y=2", True, True),
        ("url", "http://img.example.com/a", False, True),
        ("prefix", "http://img.example.com/", True, True),
        ("prefix", "http://img.example.com/b", False, True),
        ("host", "img.example.com", True, True),
        ("host", "*.example.com", True, True),
        ("host", "*.img.example.com", False, True),
        ("host", "example.com", False, True),
        ("key", "img.example.com/k", True, False),
        ("key", "other.example.com/k", False, False),
        ("regex", "http://img.example.com/.*", True, False),
        ("regex", "http://*.example.com/.*", True, False),
        ("regex", "http://other.example.com/.*", False, False),
    ],
)
def test_what_covers_a_url(kind: str, target: str, match: bool, is_sure: bool) -> None:
    found = covering([document(kind=kind, targets=[target], e=acked())], URL)
    assert [(one.match, one.is_sure) for one in found] == ([(target, is_sure)] if match else [])
    assert covering([{**document(kind=kind, targets=[target], e=acked()), "action": "prefetch"}], URL) == []


def test_of_a_long_task_the_targets_that_are_not_shown_may_cover_it() -> None:
    long = {**document(targets=["http://img.example.com/b"], e=acked()), "target_count": 5000}
    [found] = covering([long], URL)
    assert (found.match, found.is_sure) == ("one of its 5000 targets", False)


@pytest.mark.parametrize(
    ("fields", "driver", "hit"),
    [
        ({"cache-status": "parent; fwd=miss, edge; hit"}, "ats", True),
        ({"cache-status": "edge; fwd=uri-miss"}, "ats", False),
        ({"x-cache": "MISS from parent, HIT from edge"}, "squid", True),
        ({"x-cache-status": "EXPIRED"}, "nginx", False),
        ({"x-varnish": "5 3"}, "varnish", True),
        ({"x-varnish": "5 3, 7"}, "varnish", False),
        ({"x-varnish": "5"}, "ats", None),
        ({}, "varnish", None),
    ],
)
def test_whether_an_answer_came_out_of_the_cache(
    fields: dict[str, str], driver: str, hit: bool | None
) -> None:
    assert hit_of(Seen(status=200, fields=fields), driver) is hit
