"""A fleet in a tiny form; ``python -m tests.rigs.fleet`` is the one of a thousand nodes."""

from pathlib import Path

import pytest

from tests.rigs.fleet import Plan, Run


@pytest.mark.redis
def test_every_node_of_a_fleet_holds_what_it_may_after_faults(tmp_path: Path) -> None:
    plan = Plan(
        nodes=24,
        engines=2,
        minutes=0.06,
        urls=20,
        bad_nodes=0.2,
        fault_s=0.8,
        kill_every_s=2,
        dead_for_s=0.2,
        settle_s=60,
    )
    with Run(plan, tmp_path, say=print) as run:
        report = run.check()
    print(report)
    assert report.is_good, str(report)
    assert report.faults["engine killed"], str(report)
