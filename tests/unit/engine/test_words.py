"""The model's words, and the numbers of them that are stored."""

from __future__ import annotations

import pytest

from engine.tasks import words
from engine.tasks.words import Action, Kind, Operation, Outcome, State, operation_of


@pytest.mark.parametrize("kind", list(Kind))
def test_each_kind_has_its_hard_and_its_soft_operation(kind: Kind) -> None:
    assert operation_of("purge", kind.value, soft=False) is Operation[f"PURGE_{kind.name}"]
    assert operation_of(Action.PURGE, kind, soft=True) is Operation[f"SOFT_{kind.name}"]
    assert operation_of("prefetch", "url", soft=False) is Operation.PREFETCH


def test_stored_numbers_never_change() -> None:
    assert {operation.name: operation.value for operation in Operation} == {
        "PURGE_URL": 1, "SOFT_URL": 2, "PURGE_PREFIX": 3, "SOFT_PREFIX": 4, "PURGE_REGEX": 5, "SOFT_REGEX": 6,
        "PURGE_KEY": 7, "SOFT_KEY": 8, "PURGE_HOST": 9, "SOFT_HOST": 10, "PREFETCH": 11,
    }  # fmt: skip


def test_success_sorts_before_the_rest() -> None:
    assert max(Outcome.ACKED, Outcome.ABSENT) < min(Outcome.REFUSED, Outcome.RETRY, Outcome.FAILED)


def test_the_states_of_a_subtask_are_distinct_bytes_and_begin_blocked() -> None:
    names = ("BLOCKED", "QUEUED", "SENT", "RETRYING", "ACKED", "FAILED", "DELAYED", "CANCELLED")
    values = [getattr(words, name) for name in names]
    assert len(set(values)) == len(values)
    assert words.BLOCKED == 0  # what a fresh bytearray holds
    assert max(values) < 256


def test_partial_is_not_final() -> None:
    assert {State.DONE, State.FAILED, State.CANCELLED} == words.FINAL_STATES
