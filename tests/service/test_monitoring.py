"""Rules and dashboard of the package, on a real Prometheus that scrapes engines."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.fakes.canary_cache import CanaryCache
from tests.fakes.node import FakeNode
from tests.monitoring import NEEDS, alerts, asked_of_panels, metrics_in
from tests.rigs.alert_faults import FAULTS, Fault, raise_alert
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.prometheus import RULES, Prometheus, hurried
from tests.rigs.redis_door import redis_door_table
from tests.rigs.redis_servers import RedisServer
from tests.waiting import wait_until

WELL_MINUTES = 10
ENGINE = '{job="purgeline",instance="a:1"}'
NODE = '{job="purgeline",instance="a:1",node="edge-1",layer="edge",driver="ats"}'
REGION = '{job="purgeline",instance="a:1",region="eu"}'
LEAVES = '{job="purgeline",instance="a:1",region="eu",state="sick"}'
DOOR = '{job="purgeline",instance="a:1",redis="r",source="s"}'


class Course(NamedTuple):
    """How a metric goes, in promtool's notation, while all is well and from then on."""

    series: str
    well: str
    ill: str


def _course(name: str, well: str, ill: str, labels: str = ENGINE) -> list[Course]:
    return [Course(f"{name}{labels}", well, ill)]


def _histogram(name: str, bucket: str) -> list[Course]:
    """Return samples within the bucket at first, and in the next one later."""
    ill = {bucket: "540x200", "1": "600+60x200", "+Inf": "600+60x200"}
    return [
        Course(f'{name}_bucket{{job="purgeline",instance="a:1",le="{bound}"}}', "0+60x9", course)
        for bound, course in ill.items()
    ]


COURSES: dict[str, list[Course]] = {
    "PurgelineDown": _course("up", "1x9", "0x200"),
    "PurgelineNodeDown": _course("purgeline_node_ready", "1x9", "0x200", NODE),
    "PurgelineNodeUnproven": _course("purgeline_node_unproven", "0x9", "1x200", NODE),
    "PurgelineNodeRefusing": _course("purgeline_node_refusing", "0x9", "1x200", NODE),
    "PurgelineNodePaused": _course("purgeline_node_paused", "0x9", "1x200", NODE),
    "PurgelineNodeFailing": _course("purgeline_node_failed_total", "0x9", "3x200", NODE),
    "PurgelineLeafDown": _course("purgeline_leaves", "0x9", "2x200", LEAVES),
    "PurgelineLeavesUnknown": _course(
        "purgeline_leaves_learned_timestamp_seconds", "0+60x9", "540x200", REGION
    ),
    "PurgelineDelayedLong": _course("purgeline_node_oldest_delayed_seconds", "30x9", "1801x200", NODE),
    "PurgelineTasksUnfinished": [
        *_course("purgeline_tasks_partial_total", "0x9", "0x200"),
        *_course("purgeline_tasks_failed_total", "0x9", "2x200"),
    ],
    "PurgelineCanaryStale": _course("purgeline_node_canary_stale", "0x9", "1x200", NODE),
    "PurgelineCanariesOld": _course("purgeline_node_canary_timestamp_seconds", "0+60x9", "540x200", NODE),
    "PurgelineStaleServed": _course("purgeline_subtasks_stale_total", "0x9", "1x200"),
    "PurgelineObjectiveMissed": _course("purgeline_fresh_budget_left", "0.4x9", "-0.1x200"),
    "PurgelineOriginPaused": _course("purgeline_origins_paused", "0x9", "1x200"),
    "PurgelineUnavailable": _course("purgeline_requests_unavailable_total", "0x9", "7x200"),
    "PurgelineStoreFailing": _course("purgeline_store_failing", "0x9", "1x200"),
    "PurgelineStoreSlow": _histogram("purgeline_commit_seconds", "0.5"),
    "PurgelineRedisDown": _course("purgeline_redis_up", "1x9", "0x200"),
    "PurgelineDoorDown": _course("purgeline_redis_door_up", "1x9", "0x200", DOOR),
    "PurgelineDoorBehind": _course("purgeline_redis_door_oldest_pending_seconds", "2x9", "61x200", DOOR),
    "PurgelineDatagramsDropped": _course("purgeline_datagrams_dropped_total", "0x9", "12x200"),
    "PurgelineCallbacksFailed": _course("purgeline_callbacks_failed_total", "0x9", "1x200"),
    "PurgelineLoopBusy": _histogram("purgeline_loop_lag_seconds", "0.25"),
}
"""Ten minutes of well, at one sample a minute, and what is ill from then on."""

AT_MINUTE = {"PurgelineUnavailable": 12, "PurgelineNodePaused": 75, "PurgelineCanariesOld": 27}
"""When an alert has to fire that is over soon or takes its time; all others `WELL_MINUTES` + 8."""


def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    done = subprocess.run(["promtool", "check", "rules", RULES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{len(alerts())} rules found" in done.stdout


def test_each_alert_fires_of_what_is_ill_and_no_other_does(tmp_path: Path) -> None:
    """`promtool test rules` goes through the time of each course; the rules are those of the package."""
    assert set(COURSES) == set(alerts())
    tests = [_test_of(alert, courses) for alert, courses in COURSES.items()]
    file = tmp_path / "tests.yml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _test_of(alert: str, courses: list[Course]) -> dict[str, Any]:
    """Return a test that nothing fires at the end of what is well, and this one alone some minutes later."""
    late = AT_MINUTE.get(alert, WELL_MINUTES + 8)
    fires = 'count by (alertname) (ALERTS{alertstate="firing"})'
    expected = [{"labels": f'{{alertname="{alert}"}}', "value": 1}]
    return {
        "interval": "1m",
        "input_series": [{"series": one.series, "values": f"{one.well} {one.ill}"} for one in courses],
        "promql_expr_test": [
            {"expr": fires, "eval_time": f"{WELL_MINUTES - 1}m", "exp_samples": []},
            {"expr": fires, "eval_time": f"{late}m", "exp_samples": expected},
        ],
    }


def test_a_node_that_is_paused_or_unproven_is_not_told_as_down(tmp_path: Path) -> None:
    """One alert is enough."""
    series = [
        {"series": f"purgeline_node_ready{NODE}", "values": "0x20"},
        {"series": f"purgeline_node_paused{NODE}", "values": "1x20"},
        {"series": f"purgeline_node_unproven{NODE}", "values": "0x20"},
    ]
    nothing = {"expr": 'ALERTS{alertname="PurgelineNodeDown"}', "eval_time": "9m", "exp_samples": []}
    test = {"interval": "1m", "input_series": series, "promql_expr_test": [nothing]}
    file = tmp_path / "tests.yml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}))
    subprocess.run(["promtool", "test", "rules", file], check=True, capture_output=True)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Run one with hurried rules."""
    with Prometheus(tmp_path_factory.mktemp("prometheus"), hurried(RULES.read_text())) as server:
        yield server


def test_prometheus_has_every_metric_that_rules_and_dashboard_name_and_tells_what_breaks(
    prometheus: Prometheus, tmp_path: Path
) -> None:
    """An engine on Redis with a door there; then its cache ends, then Redis."""
    with FakeNode(CanaryCache()) as node, RedisServer(tmp_path) as server:
        tables = fake_table(node.url, name="edge-1", driver="ats") + f'[store]\nurl = "{server.url}"\n'
        tables += "timeout_s = 1\n[canary]\ninterval_s = 0.4\n[proof]\nobjective_s = 60\n"
        tables += redis_door_table(server.url).replace('token = "cms"\n', "")
        with EngineProcess(tmp_path, tables, drain_timeout_s=1) as engine:
            wait_until(lambda: engine.node("edge-1")["canary"])
            engine.wait_for(engine.submit(["http://img.example.com/a"]))
            prometheus.watch(engine.port)
            of_engine = f'{{instance="127.0.0.1:{engine.port}"}}'
            wait_until(lambda: prometheus.query(f"purgeline_redis_used_memory_bytes{of_engine}"))
            shown = {one["metric"]["__name__"] for one in prometheus.query(of_engine)}
            assert metrics_in() - shown - NEEDS == set(), "of these nothing is exposed"
            for expression in asked_of_panels():
                prometheus.query(expression)  # what it does not understand it answers with 400
            assert prometheus.firing(engine.port) == {}
            node.stop()
            engine.submit(["http://img.example.com/a"])
            wait_until(lambda: "PurgelineNodeDown" in prometheus.firing(engine.port))
            server.kill()
            assert engine.request("POST", "/v1/engine/task", {"targets": ["http://a.com/"]})[0] == 503
            names = ("RedisDown", "DoorDown", "StoreFailing", "Unavailable")
            expected = {f"Purgeline{name}" for name in names}
            wait_until(lambda: expected <= set(prometheus.firing(engine.port)))
        prometheus.forget(engine.port)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=[fault.alert for fault in FAULTS])
def test_each_fault_raises_its_alert(prometheus: Prometheus, tmp_path: Path, fault: Fault) -> None:
    raised = raise_alert(fault, prometheus, tmp_path)
    assert raised.runbook_url == f"docs/runbook/{fault.alert}.md"
