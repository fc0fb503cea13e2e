"""Which rows are settled by what was sent for others."""

from __future__ import annotations

import pytest

from engine.delivery.sent import Sent, supersedes, url_start_of
from engine.tasks.records import ParkedRow
from engine.tasks.words import Operation

URL = "http://a.com/img/1"


def row(target: str = URL, operation: Operation = Operation.PURGE_URL, seq: float = 1000) -> ParkedRow:
    return ParkedRow(f"{operation}:{seq}", seq, "edge-1", int(operation), target, "t", "", 0.0)


PREFIX = row("http://a.com/img/", Operation.PURGE_PREFIX, 2000)
HOST = row("a.com", Operation.PURGE_HOST, 2000)


@pytest.mark.parametrize("wide", [PREFIX, HOST])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_wide_purge_stands_for_older_urls_below_it_of_any_scheme(wide: ParkedRow, scheme: str) -> None:
    assert supersedes(wide, row(f"{scheme}://a.com/img/1"))
    assert not supersedes(wide, row(f"{scheme}://b.com/img/1"))


def test_a_host_purge_is_no_purge_of_hosts_that_begin_alike() -> None:
    assert url_start_of(HOST) == "a.com/"
    assert not supersedes(HOST, row("http://a.com.example/"))


def test_a_wide_purge_does_nothing_for_what_was_asked_after_it() -> None:
    assert not supersedes(PREFIX, row(seq=2000))
    assert not supersedes(PREFIX, row(seq=3000))


def test_a_soft_wide_purge_stands_for_soft_ones_only() -> None:
    soft = row("http://a.com/img/", Operation.SOFT_PREFIX, 2000)
    assert not supersedes(soft, row())
    assert supersedes(soft, row(operation=Operation.SOFT_URL))


def test_a_wide_purge_stands_for_urls_only() -> None:
    assert not supersedes(HOST, row("http://a.com/img/", Operation.PURGE_PREFIX))
    assert not supersedes(HOST, row(operation=Operation.PREFETCH))


def sent_after(seq: float) -> Sent:
    """Return what a delivery sends when the rows up to *seq* are in the queue."""
    sent = Sent()
    sent.begin(lambda row: row.seq <= seq)
    return sent


def test_a_row_is_covered_by_the_same_request_sent_surely_after_it() -> None:
    sent = sent_after(1001)
    sent.note((Operation.PURGE_URL, URL), [row()])
    sent.begin(lambda row: True)
    assert sent.covers(row(seq=1000))
    assert not sent.covers(row(seq=1002)), "it came while that was on its way"
    assert not sent.covers(row(operation=Operation.SOFT_URL, seq=1000))


def test_a_row_is_covered_by_a_wide_purge_sent_surely_after_it() -> None:
    sent = sent_after(2001)
    sent.note((PREFIX.operation, PREFIX.target), [PREFIX])
    assert sent.covers(row(seq=2000))
    assert not sent.covers(row(seq=2002))
    assert not sent.covers(row("http://a.com/other", seq=2000))
