"""What a soak makes of its samples."""

from __future__ import annotations

from tests.benchmarks import soak


def samples(**values: list[float]) -> list[dict[str, float]]:
    """Return ten samples for each of six windows of five minutes; a list has a value for each window."""
    flat = dict.fromkeys(soak.VALUES, [100.0] * 6)
    return [
        {"at_s": window * 300 + 30.0 * place, **{name: of[window] for name, of in {**flat, **values}.items()}}
        for window in range(6)
        for place in range(10)
    ]


def named(found: list[soak.Flatness], name: str) -> soak.Flatness:
    return next(one for one in found if one.name == name)


def test_memory_may_grow_for_ten_minutes() -> None:
    found = soak.judge(samples(rss_mib=[50, 90, 100, 105, 100, 95]), minutes=30)
    assert all(one.is_flat for one in found)
    assert named(found, "rss_mib").medians == [50, 90, 100, 105, 100, 95]


def test_a_leak_is_not_flat() -> None:
    found = soak.judge(samples(rss_mib=[100, 110, 120, 130, 140, 150]), minutes=30)
    assert [one.name for one in found if not one.is_flat] == ["rss_mib"]
    assert "NOT FLAT" in soak.verdict(found)[0]


def test_one_window_that_is_off_is_enough() -> None:
    found = soak.judge(samples(p99_ms=[5, 5, 5, 5, 5, 6]), minutes=30)
    assert not named(found, "p99_ms").is_flat
    assert round(named(found, "p99_ms").off, 3) == 0.2


def test_a_sample_that_is_off_is_not() -> None:
    seen = samples()
    seen[-1]["p99_ms"] = 5000.0
    found = soak.judge(seen, minutes=30)
    assert named(found, "p99_ms").is_flat
    assert named(found, "p99_ms").most == 5000.0


def test_a_shorter_run_has_shorter_windows() -> None:
    seen = [{**one, "at_s": one["at_s"] / 10} for one in samples(threads=[1, 1, 7, 7, 7, 7])]
    assert named(soak.judge(seen, minutes=3), "threads").settled == [7, 7, 7, 7]
