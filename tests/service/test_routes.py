"""The routes besides handing in: listing, statistics, metrics, log format; and times by a wrong clock."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine.cli.client import EngineClient
from engine.client.errors import RefusedError
from tests.fakes.node import OK, Act, FakeNode, Request
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.wall_clock import WallClock
from tests.waiting import wait_until

STATS = {
    "alert_queue",
    "input_task_queue",
    "notify_queue",
    "proof",
    "pushing_queue",
    "reporting_queue",
    "saver_queue",
    "tasks_in_cache",
    "timer_tasks",
    "timestamp",
    "qps_boss",
    "qps_proxy",
}


SETTLED = [f"settled-{n}" for n in range(13)]
RUNNING = [f"running-{n}" for n in range(8)]


def held(request: Request) -> Iterator[bytes | Act]:
    """Answer nothing under /held."""
    yield Act.HANG if "/held" in request.path else OK


@pytest.fixture
def node() -> Iterator[FakeNode]:
    with FakeNode(held) as running:
        yield running


def table(node: FakeNode) -> str:
    return fake_table(node.url, name="edge-1", driver="ats")


SETTINGS: dict[str, Any] = {
    "request_timeout_s": 600,
    "drain_timeout_s": 1,
    "pipeline_depth": 1,
    "connections_per_node": 64,
}


@pytest.fixture
def engine(node: FakeNode, tmp_path: Path) -> Iterator[EngineProcess]:
    with EngineProcess(tmp_path, table(node), **SETTINGS) as running:
        yield running
    assert "Traceback" not in running.log()


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """An engine for tests that only ask: its 13 settled and 8 running tasks stay as they are."""
    with FakeNode(held) as node:
        with EngineProcess(tmp_path_factory.mktemp("asked"), table(node), **SETTINGS) as running:
            for task_id in SETTLED:
                running.submit([f"http://img.example.com/{task_id}"], id=task_id)
                running.wait_for(task_id)
            for task_id in RUNNING:
                running.submit([f"http://img.example.com/held/{task_id}"], id=task_id)
                running.wait_for(task_id, "running")
            wait_until(lambda: running.get("/v1/engine/stats")["tasks_in_cache"] == 8, what="the savers")
            yield running
        assert "Traceback" not in running.log()


def pages(engine: EngineProcess, limit: int, state: str = "") -> list[list[dict[str, Any]]]:
    """Walk the listing to its end."""
    found = []
    query = f"limit={limit}" + (f"&state={state}" if state else "")
    cursor = ""
    while True:
        page = engine.get(f"/v1/engine/tasks?{query}{cursor}")
        found.append(page["tasks"])
        if page["cursor"] is None:
            return found
        cursor = f"&cursor={page['cursor']}"


@pytest.mark.parametrize("limit", [1, 3, 10, 1000])
def test_paging_visits_every_task_once(asked: EngineProcess, limit: int) -> None:
    """Across what is in memory and what is in the store, in pages that split both and their border."""
    listed = [task["task_id"] for page in pages(asked, limit) for task in page]
    assert len(listed) == len(set(listed))
    assert set(listed) == {*SETTLED, *RUNNING}
    assert listed[: len(RUNNING)] == list(reversed(RUNNING))
    for state, expected in (("done", SETTLED), ("running", RUNNING), ("failed", [])):
        found = [task for page in pages(asked, limit, state) for task in page]
        assert sorted(task["task_id"] for task in found) == sorted(expected)
        assert {task["state"] for task in found} <= {state}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=-1", "limit"),
        ("limit=", "limit"),
        ("limit=%C2%B2", "limit"),
        ("state=gone", "state"),
        ("state=", "state"),
        ("cursor=nonsense", "cursor"),
        ("cursor=s1", "cursor"),
        ("cursor=s0.x", "cursor"),
        ("cursor=s99.%C2%B2", "cursor"),
        ("cursor=nan~x", "cursor"),
        ("cursor=s0.99999999999999999999999", "cursor"),
    ],
)
def test_a_wrong_query_names_its_field(asked: EngineProcess, query: str, field: str) -> None:
    status, headers, body = asked.request("GET", f"/v1/engine/tasks?{query}")
    assert (status, headers["content-type"]) == (422, "application/problem+json")
    problem = json.loads(body)
    assert problem["field"] == field
    assert problem["detail"].startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("request_line", "field", "text"),
    [
        ("GET /v1/engine/tasks?url=http://a/", "url", "takes state, target, host, node, by, action, since"),
        ("GET /v1/engine/tasks?stat=done", "stat", "limit, cursor; did you mean 'state'?"),
        ("GET /v1/engine/tasks?state=done&state=failed", "state", "more than once"),
        ("HEAD /v1/engine/tasks?x", "x", "takes"),
        ("GET /v1/engine/task/settled-1?full=1", "full", "takes leaves"),
        ("DELETE /v1/engine/task/settled-1?now", "now", "takes none"),
        ("POST /v1/engine/task?dryrun=1", "dryrun", "takes dry_run; did you mean 'dry_run'?"),
        ("POST /v1/engine/tasks?%C3%A9%FF=1", "\xe9\ufffd", "takes none"),
        ("GET /v1/engine/nodes?name=edge-1", "name", "takes leaves"),
        ("GET /v1/engine/stats?a=1", "a", "takes none"),
        ("GET /v1/engine/version?a=1", "a", "takes none"),
        ("GET /v1/engine/cluster?a=1", "a", "takes none"),
        ("PUT /v1/engine/log-format?format=text", "format", "takes none"),
        ("DELETE /v1/engine/nodes/gone?force=1", "force", "takes none"),
    ],
)
def test_an_unknown_query_parameter_is_refused_and_nothing_done(
    asked: EngineProcess, request_line: str, field: str, text: str
) -> None:
    """Who names it means something by it: a purge that should have been a rehearsal is not taken back."""
    method, path = request_line.split()
    body = {"targets": ["http://img.example.com/x"]} if method == "POST" else None
    before = asked.get("/v1/engine/stats")["qps_boss"]["count"]
    status, headers, answer = asked.request(method, path, body)
    assert (status, headers["content-type"]) == (422, "application/problem+json")
    assert asked.get("/v1/engine/stats")["qps_boss"]["count"] == before
    if method != "HEAD":
        assert json.loads(answer)["field"] == field
        assert text in json.loads(answer)["detail"]


def test_the_command_line_tells_what_is_wrong_with_a_query(asked: EngineProcess) -> None:
    """As it does of a newer command's options that this engine does not know."""
    with EngineClient(f"http://127.0.0.1:{asked.port}") as client:
        with pytest.raises(RefusedError) as error:
            client.tasks({"state": "bogus"})
        assert str(error.value).startswith("state: takes accepted, running, ")
        assert str(error.value).endswith("not 'bogus' (422)")
        with pytest.raises(RefusedError, match="unknown parameter 'hots'; this route takes leaves"):
            client.request("GET", "/v1/engine/nodes?hots=a")


@pytest.mark.parametrize("path", ["/version", "/healthz", "/readyz", "/metrics"])
def test_what_monitoring_asks_for_takes_any_query(asked: EngineProcess, path: str) -> None:
    assert asked.request("GET", path + "?from=lb-1")[0] == 200


@pytest.mark.parametrize(
    "task_id", ["nobody", "%00", "a%2Fb", "%FF", "x" * 5000, "..%2f..", "'; DROP TABLE task"]
)
def test_an_unknown_task_is_404(asked: EngineProcess, task_id: str) -> None:
    path = "/v1/engine/task/" + task_id.replace(" ", "%20")
    for method in ("GET", "DELETE"):
        status, headers, body = asked.request(method, path)
        assert (status, headers["content-type"]) == (404, "application/problem+json")
        assert json.loads(body)["detail"]


def test_stats_has_just_the_promised_keys(engine: EngineProcess) -> None:
    engine.wait_for(engine.submit([f"http://img.example.com/{n}" for n in range(7)]))
    engine.wait_for(engine.submit(["http://img.example.com/held"]), "running")
    stats = engine.get("/v1/engine/stats")
    assert set(stats) == STATS
    for meter in ("qps_boss", "qps_proxy"):
        assert set(stats[meter]) == {"1m", "5m", "15m", "avg", "count"}
    assert (stats["qps_boss"]["count"], stats["qps_proxy"]["count"]) == (8, 7)
    assert (stats["pushing_queue"], stats["tasks_in_cache"], stats["timer_tasks"]) == (1, 1, 1)
    assert abs(stats["timestamp"] - time.time()) < 60


def test_metrics_can_be_parsed(engine: EngineProcess) -> None:
    """By Prometheus's own parser, each family once, and the counts are right."""
    engine.wait_for(engine.submit([f"http://img.example.com/{n}" for n in range(7)]))
    engine.request("POST", "/v1/engine/task", b"{")
    status, headers, body = engine.request("GET", "/metrics")
    assert status == 200
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    assert len(families) == body.count(b"# TYPE ")
    values = {sample.name: sample.value for family in families.values() for sample in family.samples}
    assert all(family.documentation for family in families.values())
    assert any(name.startswith("purgeline_") and value == 7 for name, value in values.items())


def test_sigusr1_swaps_the_log_format(engine: EngineProcess) -> None:
    """From struct → dict → text → struct, each said in the format that it is in."""
    for name in ("dict", "text", "struct"):
        os.kill(engine.pid, signal.SIGUSR1)
        wait_until(lambda name=name: f"log format is now {name}" in engine.log(), what=f"the format {name}")  # type: ignore[misc]
    lines = [line for line in engine.log().splitlines() if "log format is now" in line]
    for line, is_json in zip(lines, (True, False, True), strict=True):
        assert line.startswith("{") is is_json
    status, _, body = engine.request("PUT", "/v1/engine/log-format", {"format": "text"})
    assert (status, json.loads(body)) == (200, {"format": "text"})
    wrongs: tuple[object, ...] = ({"format": "xml"}, {"fromat": "text"}, [], b"{")
    for wrong in wrongs:
        status, _, body = engine.request("PUT", "/v1/engine/log-format", wrong)
        assert status == 422
        assert json.loads(body)["detail"].startswith("format: takes struct, dict or text")


@pytest.mark.parametrize("offset_s", [-7200, 7200])
def test_due_times_do_not_follow_the_clock(node: FakeNode, tmp_path: Path, offset_s: int) -> None:
    """Set back by hours, a task is due when its seconds have passed; set ahead, not at once."""
    clock = WallClock(tmp_path)
    settings: dict[str, Any] = {"request_timeout_s": 600, "drain_timeout_s": 0.5}
    engine = EngineProcess(tmp_path, table(node), env=clock.env, **settings)
    with engine:
        short = engine.submit(["http://img.example.com/held/1"], due_s=2)
        long = engine.submit(["http://img.example.com/held/2"], due_s=600)
        began = time.monotonic()
        clock.set(offset_s)
        new = engine.submit(["http://img.example.com/held/3"], due_s=2)
        assert abs(engine.task(new)["created_at"] - time.time() - offset_s) < 60  # the clock is wrong
        engine.wait_for(short, "partial")
        assert 1.5 < time.monotonic() - began < 20
        engine.wait_for(new, "partial")
        assert engine.task(long)["state"] == "running"


def test_a_restart_with_the_clock_set_back(node: FakeNode, tmp_path: Path) -> None:
    """A task of the future, by its time of acceptance, is due within its own seconds all the same."""
    clock = WallClock(tmp_path)
    settings: dict[str, Any] = {"request_timeout_s": 600, "drain_timeout_s": 0.5}
    engine = EngineProcess(tmp_path, table(node), env=clock.env, **settings)
    with engine:
        task_id = engine.submit(["http://img.example.com/held/1"], due_s=3)
        engine.kill()
        clock.set(-7200)
        engine.start()
        engine.wait_for(task_id, "partial")
