"""The checker's short run; ``python -m tests.rigs.cluster_checker`` makes a long one."""

from pathlib import Path
from typing import Any

import pytest

from tests.rigs.cluster_checker import Plan, Run

SHORT: dict[str, Any] = {
    "seconds": 16.0,
    "clients": 6,
    "kill_every_s": 4.0,
    "dead_for_s": 2.0,
    "cache_down_at_s": 3.0,
    "cache_down_for_s": 4.0,
    "settle_timeout_s": 60.0,
    "pause_s": 0.06,
}

CUT: dict[str, Any] = {
    "drain_timeout_s": 0.2,
    "cache_delay_s": 0.4,
}  #: an engine that is stopped has purges on their way


@pytest.mark.redis
@pytest.mark.timeout(150)
def test_three_engines_on_one_redis_lose_nothing_when_everything_dies_in_turn(tmp_path: Path) -> None:
    """And while their files differ, and change: each task goes to what its total says."""
    plan = Plan(store="redis", ways="kill,stop", files="differ", **CUT, **SHORT)
    with Run(plan, tmp_path, say=print) as run:
        report = run.check()
    print(report)
    assert report.is_good, str(report)


@pytest.mark.slow
@pytest.mark.redis
@pytest.mark.timeout(150)
def test_three_engines_whose_files_are_changed_one_after_the_other_lose_nothing(tmp_path: Path) -> None:
    plan = Plan(
        store="redis",
        ways="hup,stop",
        files="differ",
        redis_restarts=0,
        **CUT,
        **{**SHORT, "kill_every_s": 3.0},
    )
    with Run(plan, tmp_path, say=print) as run:
        report = run.check()
    print(report)
    assert report.is_good, str(report)


@pytest.mark.timeout(180)
def test_one_engine_on_its_own_files_loses_nothing_either(tmp_path: Path) -> None:
    """The checker itself, on what is known to work."""
    plan = Plan(store="sqlite", engines=1, **{**SHORT, "seconds": 6.0, "dead_for_s": 0.5})
    with Run(plan, tmp_path, say=print) as run:
        report = run.check()
    print(report)
    assert report.is_good, str(report)


def test_the_checker_finds_what_is_lost_and_what_came_twice_without_reason(tmp_path: Path) -> None:
    plan = Plan(
        store="sqlite",
        engines=1,
        seconds=1.0,
        clients=2,
        kill_every_s=0,
        cache_down_for_s=0,
        settle_timeout_s=10,
        pause_s=0.01,
    )
    with Run(plan, tmp_path) as run:
        run._caches[0].note(0, 0)  # as if somebody had sent it before
        run._caches[1].has = lambda number: number != 1  # type: ignore[method-assign]
        report = run.check()
    assert not report.is_good
    assert [text.partition(":")[2] for text in report.lost] == [" target 1 never came to edge-2"]
    assert [text.partition(":")[0] for text in report.unexplained] == ["target 0 at edge-1"]
