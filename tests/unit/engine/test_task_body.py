"""The body of a task: decoded, or refused with what its fields take."""

from __future__ import annotations

import pytest

from engine.errors import RequestError
from engine.intake.task_body import decode, digest_of


def refusal(body: bytes) -> RequestError:
    with pytest.raises(RequestError) as caught:
        decode(body)
    return caught.value


def test_decoding_keeps_what_was_asked() -> None:
    asked = decode(b'{"targets": ["x"], "kind": "host", "nodes": ["n"]}')
    assert (asked.kind, asked.nodes, asked.due_s) == ("host", ["n"], None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b'{"targets": [',
        b'{"targets": ["http://a/"]} x',
        b"\xff\xfe",
        b'{"targets": ["\xff"]}',
        b'{"targets": ["\\ud800"]}',
        b"{'targets': []}",
        b'{"targets": ["http://a/"], "due_s": NaN}',
    ],
)
def test_what_is_not_json_is_answered_with_400(body: bytes) -> None:
    error = refusal(body)
    assert error.status == 400
    assert "not valid JSON" in error.detail


def test_deep_nesting_is_refused_and_does_not_exhaust_the_stack() -> None:
    assert refusal(b'{"targets": ' + b"[" * 100_000).status == 422
    assert refusal(b"[" * 100_000).status == 422


def test_a_number_that_is_too_large_is_refused() -> None:
    assert refusal(b'{"targets": ["http://a/"], "due_s": 1e999}').detail.startswith("due_s: ")


def test_the_digest_is_of_the_fields_not_of_their_order_or_white_space() -> None:
    digest = digest_of(decode(b'{"id": "x", "targets": ["http://a/"], "soft": false}'))
    assert digest_of(decode(b'{"soft":false,"targets":["http://a/"],"id":"x"}')) == digest
    assert digest_of(decode(b'{"targets":["http://a/"],"id":"x"}')) == digest
    assert digest_of(decode(b'{"targets":["http://b/"],"id":"x"}')) != digest


def test_a_body_without_the_newer_fields_has_the_digest_that_earlier_versions_stored() -> None:
    """The same id with the same body is the same task, also for a client that repeats it after an update."""
    digest = digest_of(decode(b'{"id": "x", "targets": ["http://a/"]}'))
    assert digest.hex() == "b0b732884bf5923ad4d131108ee97215"
    assert digest_of(decode(b'{"id": "x", "targets": ["http://a/"], "on_incapable": "skip"}')) != digest


def test_what_is_done_about_incapable_nodes_is_one_of_two_words() -> None:
    assert refusal(b'{"targets": [], "on_incapable": "fail"}').detail.startswith(
        "on_incapable: takes refuse, skip"
    )
    assert refusal(b'{"targets": [], "on_incapable": null}').field == "on_incapable"


def test_an_unknown_field_is_told_with_the_nearest_known_one() -> None:
    assert "did you mean 'targets'?" in refusal(b'{"target": []}').detail
    assert "known: host, key" in refusal(b'{"targets": [{"x": 1}]}').detail
