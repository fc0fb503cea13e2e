"""The query of a request is read by the structure of its route; what does not fit it is 422."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
import pytest
from multidict import MultiDict

from engine.api.query import QueryReader, Time, seconds
from engine.errors import RequestError
from engine.tasks.words import State


class Asked(msgspec.Struct):
    """A parameter of each kind."""

    node: str
    state: State | msgspec.UnsetType = msgspec.UNSET
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    since: Time | msgspec.UnsetType = msgspec.UNSET
    order: Literal["old", "new"] = "new"
    dry_run: bool = False


READER = QueryReader(Asked)


def read(*pairs: tuple[str, str]) -> Any:
    return READER.read(MultiDict([("node", "edge-1"), *pairs]))


def test_parameters_are_read_as_what_they_are() -> None:
    asked = read(("state", "done"), ("limit", "7"), ("dry_run", "1"))
    assert asked == Asked("edge-1", State.DONE, 7, dry_run=True)


@pytest.mark.parametrize("since", ["1767225600", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00"])
def test_a_time_is_unix_seconds_or_has_its_zone(since: str) -> None:
    assert seconds(read(("since", since)).since) == 1767225600


@pytest.mark.parametrize(
    ("pair", "detail"),
    [
        (("stat", "done"), "query: unknown parameter 'stat'; .* node, state, .*; did you mean 'state'"),
        (("zzz", "1"), "query: unknown parameter 'zzz'; this route takes node, .*, dry_run"),
        (("node", "edge-2"), "node: is given more than once"),
        (("limit", "abc"), "limit: takes a whole number from 1 to 1000, not 'abc'"),
        (("limit", "0"), "limit: takes a whole number from 1 to 1000, not '0'"),
        (("limit", "9" * 5000), "limit: takes a whole number from 1 to 1000, not '9{64}'"),
        (("limit", "null"), "limit: takes a whole number from 1 to 1000, not 'null'"),
        (("state", "bogus"), "state: takes accepted, running, .*, not 'bogus'"),
        (("state", ""), "state: takes accepted, running, .*, not ''"),
        (("state", "null"), "state: takes accepted, running, .*, not 'null'"),
        (("order", "x"), "order: takes old, new, not 'x'"),
        (("dry_run", "yes"), "dry_run: takes true or false, not 'yes'"),
        (("since", "6h"), "since: takes UNIX seconds, or a time with its zone, such as .*Z, not '6h'"),
        (("since", "nan"), "since: takes UNIX seconds, .*, not 'nan'"),
        (("since", "inf"), "since: takes UNIX seconds, .*, not 'inf'"),
        (("since", "-1"), "since: takes UNIX seconds, .*, not '-1'"),
        (("since", "null"), "since: takes UNIX seconds, .*, not 'null'"),
        (("since", "2026-01-01T00:00:00"), "since: takes .* with its zone, .*"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_with_what_would(pair: tuple[str, str], detail: str) -> None:
    with pytest.raises(RequestError) as error:
        read(pair)
    assert error.value.status == 422
    assert error.value.field == pair[0]
    assert re.fullmatch(detail + r"\??", error.value.detail), error.value.detail


def test_a_parameter_that_must_be_given_is_named() -> None:
    with pytest.raises(RequestError, match="node: is missing; it takes text"):
        READER.read(MultiDict())
