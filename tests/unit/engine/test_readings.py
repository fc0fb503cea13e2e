"""What answers mean: whole runs at once, and in words for an operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.config.tables import NodeConfig
from engine.nodes.readings import Readings
from engine.nodes.wire import Answer
from engine.tasks.words import Operation, Outcome
from tests.fakes.shares import items_of

if TYPE_CHECKING:
    from engine.nodes.queue import Item

OK, ABSENT, REFUSED, BUSY = (Answer(status, 0, True) for status in (200, 404, 403, 503))
CONFIG = NodeConfig(name="edge-1", driver="ats", url="http://127.0.0.1")


def items(*operations: Operation) -> list[Item]:
    return [item for operation in operations for item in items_of("http://a.com/", operation=operation)]


def purges(count: int) -> list[Item]:
    return items(*[Operation.PURGE_URL] * count)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [(OK, Outcome.ACKED), (ABSENT, Outcome.ABSENT), (REFUSED, Outcome.REFUSED), (BUSY, Outcome.RETRY)],
)
def test_one_answer_to_every_purge_is_read_once(answer: Answer, outcome: Outcome) -> None:
    readings = Readings(CONFIG)
    assert readings.read_run(purges(3), [answer] * 3) is outcome
    assert readings.read(Operation.PURGE_URL, answer) is outcome


def test_a_mixed_run_is_looked_at_one_by_one() -> None:
    readings = Readings(CONFIG)
    assert readings.read_run(purges(2), [OK, ABSENT]) is None
    assert readings.read_run(items(Operation.PURGE_URL, Operation.SOFT_URL), [OK, OK]) is None
    assert readings.read_run(items(Operation.PREFETCH), [OK]) is None


def test_reasons_name_the_node_and_what_to_do() -> None:
    readings = Readings(CONFIG)
    purge = Operation.PURGE_URL
    assert readings.reason_of(purge, Outcome.RETRY, BUSY) == "answered 503"
    assert readings.reason_of(purge, Outcome.REFUSED, REFUSED) == (
        "refused: answered 403: let PURGE in from this engine (ACL, method) on edge-1"
    )
    assert "no rule for this host on edge-1" in readings.reason_of(purge, Outcome.REFUSED, ABSENT)
    assert readings.reason_of(Operation.PREFETCH, Outcome.FAILED, ABSENT) == "answered 404 to a prefetch"
