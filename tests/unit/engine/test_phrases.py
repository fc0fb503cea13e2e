"""The phrases of statuses."""

from __future__ import annotations

from engine.base.phrases import phrase_of


def test_a_phrase_is_the_same_on_every_python() -> None:
    """3.13 renamed four of them; the titles of problem documents are made of these."""
    phrases = [phrase_of(status) for status in (202, 404, 413, 414, 416, 422, 503, 599)]
    assert phrases == [
        "Accepted",
        "Not Found",
        "Request Entity Too Large",
        "Request-URI Too Long",
        "Requested Range Not Satisfiable",
        "Unprocessable Entity",
        "Service Unavailable",
        "",
    ]
