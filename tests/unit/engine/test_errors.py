"""Errors carry facts, and belong to who must act."""

from __future__ import annotations

import inspect

import pytest

from engine import errors


def test_every_error_is_an_engine_error_and_says_what_it_is() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    assert kinds
    for kind in kinds:
        assert issubclass(kind, errors.EngineError)
        assert kind.__name__.endswith("Error")
        assert kind.__doc__


def test_a_request_error_keeps_status_field_and_headers() -> None:
    error = errors.RequestError(405, "takes GET", field="x", headers={"Allow": "GET"})
    assert str(error) == error.detail == "takes GET"
    assert (error.status, error.field, error.headers) == (405, "x", {"Allow": "GET"})
    assert errors.RequestError(400, "no").headers == {}


@pytest.mark.parametrize(
    ("retry_after_s", "header"), [(0.0, "1"), (0.4, "1"), (1.2, "2"), (2.0, "2"), (9.9, "10")]
)
def test_a_spent_rate_asks_to_wait_whole_seconds_and_at_least_one(retry_after_s: float, header: str) -> None:
    error = errors.RateLimitedError("t", retry_after_s=retry_after_s)
    assert error.status == 429
    assert error.headers == {"Retry-After": header}
    assert "'t'" in error.detail


def test_a_full_backlog_says_which_and_how_long() -> None:
    error = errors.BacklogFullError("saver_queue", retry_after_s=1)
    assert str(error) == "saver_queue is full, retry in 1 s"
    assert (error.backlog, error.retry_after_s) == ("saver_queue", 1)


def test_a_damaged_store_is_a_store_error() -> None:
    assert issubclass(errors.StoreDamagedError, errors.StoreError)
    assert not issubclass(errors.StoreError, errors.RequestError)
