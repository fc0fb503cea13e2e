"""What answers mean: whole runs at once, and in words for an operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.config.tables import NodeConfig
from engine.nodes.answer import Answer
from engine.nodes.judge import Judge
from engine.nodes.readings import Readings
from engine.observe.counters import Stats
from engine.tasks.words import Operation, Outcome
from tests.fakes.shares import items_of

if TYPE_CHECKING:
    from engine.config.tables import Driver
    from engine.nodes.queue import Item
    from engine.observe.logs import AnswerRow

OK, ABSENT, REFUSED, BUSY = (Answer(status, 0, True) for status in (200, 404, 403, 503))
CONFIG = NodeConfig(name="edge-1", driver="ats", url="http://127.0.0.1")
VARNISH = NodeConfig(name="edge-1", driver="varnish", url="http://127.0.0.1")


def judge(driver: Driver = "ats") -> Judge:
    return Judge(NodeConfig(name="edge-1", driver=driver, url="http://127.0.0.1"), lambda: 0.0, 300)


def items(*operations: Operation) -> list[Item]:
    return [item for operation in operations for item in items_of("http://a.com/", operation=operation)]


def purges(count: int) -> list[Item]:
    return items(*[Operation.PURGE_URL] * count)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [(OK, Outcome.ACKED), (ABSENT, Outcome.ABSENT), (REFUSED, Outcome.REFUSED), (BUSY, Outcome.RETRY)],
)
def test_one_answer_to_every_purge_is_read_once(answer: Answer, outcome: Outcome) -> None:
    readings = Readings(CONFIG, judge(), Stats())
    assert readings.read_run(purges(3), [answer] * 3) is outcome
    assert readings.read(Operation.PURGE_URL, answer) is outcome


def test_a_mixed_run_is_looked_at_one_by_one() -> None:
    readings = Readings(CONFIG, judge(), Stats())
    assert readings.read_run(purges(2), [OK, ABSENT]) is None
    assert readings.read_run(items(Operation.PURGE_URL, Operation.SOFT_URL), [OK, OK]) is None
    assert readings.read_run(items(Operation.PREFETCH), [OK]) is None


def test_a_read_is_sorted_into_what_was_acked_and_what_was_not() -> None:
    first, second, third = purges(3)
    sort = Readings(CONFIG, judge(), Stats()).sort
    assert sort([first, second, third], [OK, BUSY, ABSENT], 0.1) == (
        [first],
        [third],
        [(second, Outcome.RETRY, BUSY)],
    )
    assert sort([first, second], [ABSENT, ABSENT], 0.1) == ([], [first, second], [])
    assert sort([first, second], [OK, OK], 0.1) == ([first, second], [], [])


@pytest.mark.parametrize("is_logged", [False, True])
def test_no_answer_counts_whose_bytes_tell_less_than_the_probe_found(is_logged: bool) -> None:
    judging = judge()
    judging.is_overruled = True
    readings = Readings(CONFIG, judging, Stats(), (lambda *line: None) if is_logged else None)
    answers = [OK, OK, ABSENT, REFUSED, BUSY]
    acked, absent, rest = readings.sort(purges(5), answers, 0.1)
    assert (acked, absent) == ([], [])
    assert [outcome for _, outcome, _ in rest] == [*[Outcome.UNPROVEN] * 3, Outcome.REFUSED, Outcome.RETRY]
    assert readings.sort(items(Operation.PREFETCH), [OK], 0.1)[1:] == ([], [])


def test_what_prefetches_brought_is_counted() -> None:
    stats = Stats()
    Readings(CONFIG, judge(), stats).sort(
        items(Operation.PREFETCH), [Answer(200, 4096, keep_alive=True)], 0.1
    )
    assert stats.prefetched_bytes == 4096


def test_a_status_that_the_node_keeps_is_read_by_what_the_answer_shows() -> None:
    """The same status twice: the origin's page counts, the cache's own does not."""
    config = NodeConfig(name="edge-1", driver="ats", url="http://127.0.0.1", prefetch_statuses=[404])
    readings = Readings(config, judge(), Stats())
    brought = ABSENT._replace(text=b"HTTP/1.1 404 Not Found\r\nAge: 0\r\n\r\n")
    acked, _, [(_, outcome, answer)] = readings.sort(
        items(Operation.PREFETCH, Operation.PREFETCH), [brought, ABSENT], 0.1
    )
    assert (len(acked), outcome) == (1, Outcome.FAILED)
    assert readings.reason_of(Operation.PREFETCH, outcome, answer) == (
        "answered 404 to a prefetch, which nothing shows to be the origin's and to be kept by edge-1 "
        "(prefetch_statuses)"
    )


def test_each_answer_of_a_read_is_logged_with_its_reading() -> None:
    logged: list[tuple[str, list[AnswerRow], float]] = []
    readings = Readings(CONFIG, judge(), Stats(), lambda *line: logged.append(line))
    readings.sort(purges(2), [OK, ABSENT], 0.25)
    [(node, rows, duration_ms)] = logged
    assert (node, duration_ms) == ("edge-1", 250)
    assert [(status, outcome) for *_, status, outcome in rows] == [
        (200, Outcome.ACKED),
        (404, Outcome.ABSENT),
    ]


def test_reasons_name_the_node_and_what_to_do() -> None:
    readings = Readings(CONFIG, judge(), Stats())
    purge = Operation.PURGE_URL
    assert readings.reason_of(purge, Outcome.RETRY, BUSY) == "answered 503"
    assert readings.reason_of(purge, Outcome.REFUSED, REFUSED) == (
        "refused: answered 403: let PURGE in from this engine (ACL, method) on edge-1"
    )
    assert "let BAN in from this engine" in Readings(VARNISH, judge("varnish"), Stats()).reason_of(
        Operation.PURGE_HOST, Outcome.REFUSED, REFUSED
    )
    assert "no rule for this host on edge-1" in readings.reason_of(purge, Outcome.REFUSED, ABSENT)
    assert readings.reason_of(Operation.PREFETCH, Outcome.FAILED, ABSENT) == "answered 404 to a prefetch"
