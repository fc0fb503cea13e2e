"""How a table fits a terminal."""

from __future__ import annotations

from engine.cli.layout import fitting, header_of

NODES = {
    "name": ["edge-frankfurt-2", "edge-4"],
    "state": ["refusing", "ready"],
    "oldest_delayed_s": ["1.5", "0"],
    "evidence": ["any", "-"],
}
ERRORS = {"node": ["edge-2"], "target": ["http://a.com/page"], "reason": ["refused: answered 405"]}


def test_a_header_breaks_between_its_words_where_its_cells_are_narrower() -> None:
    assert header_of("oldest_delayed_s", 3) == "oldest\ndelayed\ns"
    assert header_of("oldest_delayed_s", 9) == "oldest\ndelayed s"
    assert header_of("oldest_delayed_s", 40) == "oldest delayed s"


def test_all_columns_are_shown_where_there_is_room() -> None:
    needed = 16 + 8 + 7 + 8 + 3 + 2
    assert fitting(NODES, needed) == {"name": 16, "state": 8, "oldest_delayed_s": 7, "evidence": 8}


def test_what_tells_least_is_left_out_first() -> None:
    assert list(fitting(NODES, 43)) == ["name", "state", "oldest_delayed_s"]
    assert list(fitting(NODES, 30)) == ["name", "state"]


def test_what_is_too_wide_for_a_table_is_none() -> None:
    assert fitting(NODES, 20) == {}
    assert fitting(ERRORS, 30) == {}


def test_a_sentence_breaks_between_its_words_and_gets_the_room_that_is_left() -> None:
    assert fitting(ERRORS, 38) == {"node": 6, "target": 17, "reason": 8 + 3}
    assert fitting(ERRORS, 200)["reason"] == len("refused: answered 405")


def test_sentences_share_the_room_that_is_left() -> None:
    """The one that wants less has what it wants, and the other the rest."""
    notes = {"nodes": ["e1, e2, e3"], "note": ["soft purges are done as hard ones"]}
    assert fitting(notes, 40) == {"nodes": 10, "note": 27}
    assert fitting(notes, 20) == {"nodes": 8, "note": 9}


def test_a_table_without_rows_has_its_headers() -> None:
    assert fitting({"name": [], "state": []}, 80) == {"name": 4, "state": 5}
