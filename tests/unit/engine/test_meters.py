"""Meters and histograms."""

from __future__ import annotations

import math
import time

import pytest

from engine.observe.meters import Histogram, Meter


class Clock:
    """Seconds, set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_meter_follows_go_metrics() -> None:
    """go-metrics' own numbers: 3 events in the first tick, then a minute of silence at a time."""
    clock = Clock()
    meter = Meter(clock)
    meter.mark(3)
    clock.now += 5
    assert meter.snapshot()["1m"] == pytest.approx(0.6)
    expected = [0.22072766470286553, 0.08120117, 0.02987224, 0.01098938]
    for rate in expected:
        clock.now += 60
        assert meter.snapshot()["1m"] == pytest.approx(rate, rel=1e-6)


def test_meter_5m_and_15m_follow_go_metrics() -> None:
    """After one minute of silence, as in go-metrics' ewma_test.go."""
    clock = Clock()
    meter = Meter(clock)
    meter.mark(3)
    clock.now += 65
    assert meter.snapshot()["5m"] == pytest.approx(0.49123845184678905)
    assert meter.snapshot()["15m"] == pytest.approx(0.5613041910189706)


def test_meter_caught_up_lazily_is_meter_ticked_on_time() -> None:
    """Whether somebody looks at every tick or only at the end makes no difference."""
    clock = Clock()
    watched, lazy = Meter(clock), Meter(clock)
    for step in range(200):
        for meter in (watched, lazy):
            meter.mark(step % 7)
        clock.now += 1.3 if step % 50 else 40
        watched.snapshot()
    expected = watched.snapshot()
    assert lazy.snapshot() == pytest.approx(expected)
    assert expected["count"] == sum(step % 7 for step in range(200))


def test_meter_average_and_a_fresh_meter() -> None:
    """The average is over the meter's life; without any life it is 0, not a division by zero."""
    clock = Clock()
    meter = Meter(clock)
    assert meter.snapshot() == {"1m": 0.0, "5m": 0.0, "15m": 0.0, "avg": 0.0, "count": 0}
    meter.mark(10)
    clock.now += 4
    assert meter.snapshot() == {"1m": 0.0, "5m": 0.0, "15m": 0.0, "avg": 2.5, "count": 10}


def test_meter_silent_for_a_year_costs_nothing() -> None:
    """Catching up is one step, however long nobody asked."""
    clock = Clock()
    meter = Meter(clock)
    meter.mark()
    clock.now += 365 * 86400
    start = time.perf_counter()
    assert meter.snapshot()["15m"] == pytest.approx(0)
    assert time.perf_counter() - start < 1


def test_histogram_bounds_are_inclusive_and_cumulative() -> None:
    """As Prometheus' ``le``: a value equal to a bound counts into it."""
    histogram = Histogram()
    for duration in (0.001, 0.0011, 1000.0):
        histogram.observe(duration)
    buckets = dict(histogram.buckets())
    assert buckets["0.001"] == 1
    assert buckets["0.0025"] == 2
    assert buckets["300.0"] == 2
    assert buckets["+Inf"] == 3
    assert math.isclose(histogram.sum_s, 1000.0021)
