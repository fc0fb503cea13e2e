"""What regions say of their leaves, made the root's: names, sentences, and what a hostile one may not do."""

from __future__ import annotations

import msgspec
import pytest

from engine.api.below import NONE_BELOW, Said, is_leaf, one_line, region_of
from engine.api.why_below import _read, _told
from engine.errors import RequestError
from engine.proof.whole import Conclusion, whole_of

LEAF = {
    "name": "edge-7",
    "layer": "edge",
    "driver": "varnish",
    "state": "ready",
    "conclusion": "never_purged",
    "sentence": "edge-7 serves the old page: no purge went to edge-7; next: `purgeline resume edge-7`",
    "answers": [],
    "error": "",
    "filled": False,
}


def _said(**more: object) -> Said:
    answer = {"nodes": [LEAF], "conclusion": "never_purged", "sentence": LEAF["sentence"], **more}
    return Said("eu", 200, msgspec.json.encode(answer))


def test_leaves_have_the_name_of_their_region_in_front_also_in_sentences() -> None:
    region, answer = _read(_said(can_fill=["edge-7"]))
    assert answer.nodes[0].name == "eu/edge-7"
    assert answer.nodes[0].sentence == (
        "eu/edge-7 serves the old page: no purge went to eu/edge-7; next: `purgeline resume eu/edge-7`"
    )
    assert region.sentence == answer.nodes[0].sentence
    assert answer.can_fill == ["eu/edge-7"]


def test_a_word_that_a_leaf_is_called_stays_a_word() -> None:
    told = {**LEAF, "name": "page", "sentence": "page serves the old page: ..."}
    _, answer = _read(_said(nodes=[told]))
    assert answer.nodes[0].sentence == "eu/page serves the old page: ..."


def test_a_command_that_reads_a_file_says_where() -> None:
    sentence = "edge-7 refuses: next: `purgeline check-nodes --config engine.toml --node edge-7`"
    _, answer = _read(_said(nodes=[{**LEAF, "sentence": sentence}]))
    assert answer.nodes[0].sentence.endswith("--node eu/edge-7` (where the engine of eu is)")


@pytest.mark.parametrize(
    "name", ["../etc", "<b>x</b>", "a\x1b[31m", "a//b", "", "a" * 65, "/".join("a" * 12)]
)
def test_a_leaf_with_a_hostile_name_is_left_out_and_told_of(name: str) -> None:
    assert not is_leaf(name)
    region, answer = _read(_said(nodes=[LEAF, {**LEAF, "name": name}]))
    assert [node.name for node in answer.nodes] == ["eu/edge-7"]
    assert region.incomplete == "1 of its 2 leaves are shown"


def test_texts_of_a_region_are_one_line_without_control_characters() -> None:
    _, answer = _read(_said(nodes=[{**LEAF, "state": "a\nb\x1b[2J", "error": "x" * 5000}]))
    assert answer.nodes[0].state == "a b [2J"
    assert len(answer.nodes[0].error) == 1000
    assert one_line("a\u202eb\u2028c") == "a b c"


def test_a_region_that_does_not_answer_stands_for_its_leaves_and_hides_nothing_worse() -> None:
    region, answer = _read(Said("eu", error="no answer within 16.0 s"))
    assert (region.conclusion, region.error) == (Conclusion.UNREACHABLE, "no answer within 16.0 s")
    assert answer.nodes[0].name == "eu"
    _, other = _read(_said())
    whole = whole_of([_told(node) for node in (*answer.nodes, *other.nodes)])
    assert whole.conclusion is Conclusion.NEVER_PURGED
    fresh = {**LEAF, "conclusion": "fresh", "sentence": "edge-7 serves it: nothing is to be done"}
    _, well = _read(_said(nodes=[fresh]))
    whole = whole_of([_told(node) for node in (*answer.nodes, *well.nodes)])
    assert whole.conclusion is Conclusion.UNREACHABLE


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"nodes": 1}', b"\xff", b'{"nodes":[],"sentence":"x"}'])
def test_an_answer_that_cannot_be_read_is_none(body: bytes) -> None:
    region, _ = _read(Said("eu", 200, body))
    assert region.error.startswith("its answer cannot be read: ")


def test_an_engine_without_nodes_has_a_conclusion() -> None:
    assert whole_of([]).conclusion is Conclusion.NOT_CACHED


def test_only_a_name_with_a_mark_is_a_leaf_and_its_region_must_be_known() -> None:
    assert region_of("edge-7", NONE_BELOW) is None
    with pytest.raises(RequestError, match="'eu' is no node of this engine"):
        region_of("eu/edge-7", NONE_BELOW)


@pytest.mark.parametrize("name", ["eu/", "eu/..", "eu/../x", "eu/a b", "eu//a", "eu/a\n"])
def test_what_no_leaf_can_be_called_is_not_passed_on(name: str) -> None:
    class Eu:
        regions = ("eu",)

    with pytest.raises(RequestError, match="takes the name of a node of eu"):
        region_of(name, Eu())  # type: ignore[arg-type]
