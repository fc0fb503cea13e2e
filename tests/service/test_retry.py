"""What failed of a task is sent again, and nothing else of it."""

from __future__ import annotations

import contextlib
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from engine.cli.main import main
from tests.fakes.node import OK, Act, FakeNode, Request, answer
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.redis_servers import RedisServer
from tests.rigs.supervised_engine import SupervisedEngine
from tests.service.test_openapi import token
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST = "http://img.example.com/"
GOOD = [f"{HOST}good/{number}" for number in range(5)]
BAD = [f"{HOST}bad/{number}" for number in range(120)]


class Picky:
    """A cache that cannot read what is under /bad, until it is mended; then it may hang."""

    def __init__(self) -> None:
        self.is_mended = False
        self.hangs = False

    def __call__(self, request: Request) -> Iterator[bytes | Act]:
        if self.is_mended:
            yield Act.HANG if self.hangs else OK
        else:
            yield answer(400) if "/bad/" in request.path else OK


@pytest.fixture
def picky() -> Picky:
    return Picky()


@pytest.fixture
def edge(picky: Picky) -> Iterator[FakeNode]:
    with FakeNode(picky) as node:
        yield node


def tables_of(**nodes: FakeNode) -> str:
    return "".join(
        fake_table(node.url, name=name.replace("_", "-"), driver="ats") for name, node in nodes.items()
    )


def retry(engine: Any, task_id: str, status: int = 202, query: str = "") -> Any:
    answered, _, body = engine.request("POST", f"/v1/engine/task/{task_id}/retry{query}")
    assert answered == status, body
    return json.loads(body)


def retries(engine: Any, status: int = 200, query: str = "", **asked: object) -> Any:
    answered, _, body = engine.request("POST", f"/v1/engine/retries{query}", asked)
    assert answered == status, body
    return json.loads(body)


def audit_of(engine: EngineProcess, what: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in engine.log().splitlines() if '"audit"' in line]
    return [line for line in lines if line["audit"] == what]


def test_what_failed_goes_to_the_nodes_where_it_failed_also_beyond_the_errors_that_are_kept(
    tmp_path: Path, edge: FakeNode, picky: Picky
) -> None:
    with FakeNode() as other, EngineProcess(tmp_path, tables_of(edge_1=edge, edge_2=other)) as engine:
        task_id = engine.submit([*GOOD, *BAD], id="release-1")
        failed = engine.wait_for(task_id)
        assert (failed["failed"], len(failed["errors"])) == (len(BAD), 100)
        sent = len(edge.urls)
        picky.is_mended = True
        taken = {"targets": GOOD, "id": "release-1.retry-1"}
        for query in ("", "?dry_run=1"):
            status, _, body = engine.request("POST", f"/v1/engine/task{query}", taken)
            assert (status, json.loads(body)["field"]) == (422, "id")
        retried = retry(engine, task_id)
        assert (retried["task_id"], retried["total"]) == ("release-1.retry-1", len(BAD))
        assert (retried["retries"], retried["left_out"]) == (task_id, [])
        done = engine.wait_for(retried["task_id"])
        assert (done["state"], done["retries"], done["counter"]) == ("done", task_id, len(BAD))
        assert sorted(edge.urls[sent:]) == sorted(BAD)
        assert len(other.urls) == len(GOOD) + len(BAD)
        for name in (task_id, retried["task_id"]):
            assert retry(engine, name, 409)["detail"] == (
                "what failed of task 'release-1' was sent again as 'release-1.retry-1', which is done"
            )
        wait_until(lambda: audit_of(engine, "retried"), what="the line of the retry")
        [line] = audit_of(engine, "retried")
        assert (line["task_id"], line["outcome"]) == (task_id, "release-1.retry-1")
        assert (line["count"], line["by"], line["address"]) == (len(BAD), "anonymous", "127.0.0.1")
    assert "Traceback" not in engine.log()


def test_what_a_retry_would_send_is_told_before_and_nothing_is_sent(
    tmp_path: Path, edge: FakeNode, picky: Picky
) -> None:
    """What another retry has mended does not count; the figure is that of the retry that follows."""
    with FakeNode() as other, EngineProcess(tmp_path, tables_of(edge_1=edge, edge_2=other)) as engine:
        whole, mended = engine.submit([*GOOD, *BAD]), engine.submit(BAD[:3])
        for task_id in (whole, mended):
            engine.wait_for(task_id)
        picky.is_mended = True
        again = retry(engine, mended)["task_id"]
        assert engine.wait_for(again)["state"] == "done"
        seen = len(edge.urls)
        told = retry(engine, whole, 200, "?dry_run=1")
        assert told == {
            "dry_run": True,
            "total": len(BAD),
            "retries": whole,
            "nodes": ["edge-1"],
            "left_out": [],
        }
        said = retry(engine, mended, 409, "?dry_run=1")["detail"]
        assert said == retry(engine, mended, 409)["detail"]
        assert "dry_run" in retry(engine, whole, 422, "?dry_run=2")["detail"]
        all_told = retries(engine, query="?dry_run=1", node="edge-1")
        assert (all_told["dry_run"], all_told["retried"], all_told["tasks"]) == (True, 1, [told])
        assert [one["task_id"] for one in all_told["not_retried"]] == [mended]
        assert not audit_of(engine, "retried")[1:]
        assert len(edge.urls) == seen
        assert engine.request("GET", f"/v1/engine/task/{whole}.retry-1")[0] == 404
        sent = retry(engine, whole)
        assert (sent["total"], sent["retries"]) == (told["total"], whole)
        assert engine.wait_for(sent["task_id"])["state"] == "done"


def test_one_retry_of_a_task_is_at_work_at_a_time_and_the_next_sends_what_that_left(
    tmp_path: Path, edge: FakeNode, picky: Picky
) -> None:
    with EngineProcess(tmp_path, tables_of(edge_1=edge)) as engine:
        task_id = engine.submit(BAD[:3])
        engine.wait_for(task_id, "failed")
        picky.is_mended = picky.hangs = True
        first = retry(engine, task_id)["task_id"]
        said = retry(engine, task_id, 409)["detail"]
        assert said.startswith(f"what failed of task {task_id!r} is being sent again, as task {first!r}")
        picky.is_mended = picky.hangs = False
        edge.stop()
        edge.start()
        assert engine.wait_for(first)["state"] == "failed"
        picky.is_mended = True
        second = retry(engine, first)
        assert (second["task_id"], second["retries"]) == (f"{task_id}.retry-2", task_id)
        assert engine.wait_for(second["task_id"])["state"] == "done"


def test_a_node_that_was_not_configured_is_sent_what_failed_when_it_is_back(
    tmp_path: Path, edge: FakeNode, picky: Picky
) -> None:
    with FakeNode(picky) as other:
        both, without = tables_of(edge_1=edge, edge_2=other), tables_of(edge_2=other)
        with EngineProcess(tmp_path, both) as engine:
            task_id = engine.submit(BAD[:2])
            engine.wait_for(task_id, "failed")
        picky.is_mended = True
        with EngineProcess(tmp_path, without) as engine:
            retried = retry(engine, task_id)
            assert [(one["node"], one["targets"]) for one in retried["left_out"]] == [("edge-1", 2)]
            assert engine.wait_for(retried["task_id"])["state"] == "done"
        seen = len(edge.urls)
        with EngineProcess(tmp_path, both) as engine:
            retried = retry(engine, task_id)
            assert (retried["task_id"], retried["left_out"]) == (f"{task_id}.retry-2", [])
            found = engine.wait_for(retried["task_id"])
            assert (found["state"], [node["name"] for node in found["nodes"]]) == ("done", ["edge-1"])
            assert sorted(edge.urls[seen:]) == BAD[:2]
            assert "retry-2', which is done" in retry(engine, task_id, 409)["detail"]


def test_nodes_with_other_failures_get_tasks_of_their_own(tmp_path: Path) -> None:
    def refusing(part: str) -> Picky:
        class Other(Picky):
            def __call__(self, request: Request) -> Iterator[bytes | Act]:
                yield answer(400) if part in request.path and not self.is_mended else OK

        return Other()

    one, two = refusing("/bad/1"), refusing("/bad/2")
    with FakeNode(one) as edge, FakeNode(two) as other:
        tables = tables_of(edge_1=edge, edge_2=other)
        with EngineProcess(tmp_path, tables) as engine:
            task_id = engine.submit([HOST + "bad/1", HOST + "bad/2", HOST + "good"])
            assert engine.wait_for(task_id)["failed"] == 2
            one.is_mended = two.is_mended = True
            before = (len(edge.urls), len(other.urls))
            retried = retry(engine, task_id)
            assert (retried["total"], len(retried["tasks"])) == (2, 2)
            for name in retried["tasks"]:
                assert engine.wait_for(name)["state"] == "done"
            sent = (edge.urls[before[0] :], other.urls[before[1] :])
            assert sent == ([HOST + "bad/1"], [HOST + "bad/2"])


def test_a_group_that_was_refused_is_sent_by_the_next_retry(tmp_path: Path) -> None:
    is_mended = False

    def script(request: Request) -> Iterator[bytes]:
        fails = request.path in {"PURGE": ["/bad"], "GET": ["/lost"]}.get(request.method, ())
        yield answer(400 if request.method == "PURGE" else 404) if fails and not is_mended else OK

    with FakeNode(script) as edge:
        tables = tables_of(edge_1=edge) + '[[site]]\nhost = "*"\n' + token("ops", ["submit", "read"])
        tables += token("slow", ["submit", "read"], "rate_per_s = 0.01\nburst_count = 1")
        with EngineProcess(tmp_path, tables) as engine:

            def ask(method: str, path: str, who: str, body: object = None) -> Any:
                _, _, text = engine.request(method, path, body, {"Authorization": f"Bearer {who}"})
                return json.loads(text)

            def settled(task_id: str) -> bool:
                return not ask("GET", f"/v1/engine/task/{task_id}", "ops")["active"]

            body = {"targets": [HOST + "bad", HOST + "lost"], "prefetch": True, "id": "t"}
            ask("POST", "/v1/engine/task", "ops", body)
            wait_until(partial(settled, "t"), what="the end")
            is_mended = True
            seen = len(edge.requests)
            first = ask("POST", "/v1/engine/task/t/retry", "slow")
            assert ([one["targets"] for one in first["left_out"]], first["tasks"]) == ([1], ["t.retry-1"])
            wait_until(partial(settled, "t.retry-1"), what="the end")
            second = ask("POST", "/v1/engine/task/t/retry", "ops")
            assert (second["tasks"], second["left_out"]) == (["t.retry-2"], [])
            wait_until(partial(settled, "t.retry-2"), what="the end")
            sent = [(one.method, one.path) for one in edge.requests[seen:]]
            assert sorted(sent) == [("GET", "/bad"), ("GET", "/lost"), ("PURGE", "/bad")]
            assert "which is done" in ask("POST", "/v1/engine/task/t/retry", "ops")["detail"]


def test_what_cannot_be_sent_again_is_told_why(tmp_path: Path, edge: FakeNode, picky: Picky) -> None:
    with FakeNode() as other:
        tables = tables_of(edge_1=edge, edge_2=other)
        with EngineProcess(tmp_path, tables, drain_timeout_s=0.2) as engine:
            assert "there is no task" in retry(engine, "nobody", 404)["detail"]
            done = engine.submit(GOOD)
            engine.wait_for(done)
            assert retry(engine, done, 409)["detail"] == f"nothing of task {done!r} has failed: it is done"
            failed = engine.submit(BAD[:2], nodes=["edge-1"])
            engine.wait_for(failed, "failed")
            picky.is_mended = picky.hangs = True
            running = engine.submit(GOOD, nodes=["edge-1"])
            assert "it can be retried when it has settled" in retry(engine, running, 409)["detail"]
        with EngineProcess(tmp_path, tables_of(edge_2=other)) as engine:
            said = retry(engine, failed, 409)["detail"]
            assert said.startswith(f"what failed of task {failed!r} was for edge-1, which is not configured")


def test_a_kind_that_the_cache_cannot_do_any_more_is_refused_as_a_new_task_is(tmp_path: Path) -> None:
    def refuses_bans(request: Request) -> Iterator[bytes]:
        yield answer(400)

    with FakeNode(refuses_bans) as edge:
        with EngineProcess(tmp_path, fake_table(edge.url, name="edge-1", driver="varnish")) as engine:
            task_id = engine.submit([HOST + "album/"], kind="prefix")
            engine.wait_for(task_id, "failed")
        with EngineProcess(tmp_path, fake_table(edge.url, name="edge-1", driver="squid")) as engine:
            said = retry(engine, task_id, 422)["detail"]
            assert said.startswith("kind: purge by prefix cannot be done by edge-1 (squid)")


def test_a_purge_that_fetches_again_is_retried_with_its_fetch_and_a_fetch_alone(tmp_path: Path) -> None:
    is_mended = False

    def script(request: Request) -> Iterator[bytes]:
        fails = (request.method == "PURGE" and "/bad/" in request.path) or (
            request.method == "GET" and "/lost/" in request.path
        )
        yield answer(400 if request.method == "PURGE" else 404) if fails and not is_mended else OK

    with FakeNode(script) as edge, EngineProcess(tmp_path, tables_of(edge_1=edge)) as engine:
        task_id = engine.submit([HOST + "bad/1", HOST + "lost/1", HOST + "good"], prefetch=True)
        found = engine.wait_for(task_id)
        is_mended = True
        seen = len(edge.requests)
        retried = retry(engine, task_id)
        assert retried["total"] == found["failed"]
        for name in retried["tasks"]:
            assert engine.wait_for(name)["state"] == "done"
        sent = [(one.method, one.path) for one in edge.requests[seen:]]
        assert sorted(sent) == sorted(
            [("PURGE", "/bad/1"), ("GET", "/bad/1")] + ([("GET", "/lost/1")] if found["failed"] == 3 else [])
        )


def test_all_that_failed_for_a_reason_is_sent_again_with_one_request(
    tmp_path: Path, edge: FakeNode, picky: Picky
) -> None:
    with FakeNode() as other, EngineProcess(tmp_path, tables_of(edge_1=edge, edge_2=other)) as engine:
        tasks = [engine.submit(BAD[place : place + 1]) for place in range(3)]
        for task_id in tasks:
            engine.wait_for(task_id, "failed")
        assert retries(engine, 422)["detail"].startswith("body: takes at least one of node, host")
        assert retries(engine, node="edge-1", reason="no such words")["retried"] == 0
        assert retries(engine, node="edge-9")["retried"] == 0
        picky.is_mended = True
        first = retries(engine, node="edge-1", reason="400", limit=2)
        assert (first["retried"], bool(first["cursor"])) == (2, True)
        rest = retries(engine, node="edge-1", reason="400", limit=2, cursor=first["cursor"])
        assert (rest["retried"], rest["cursor"]) == (1, None)
        begun = [one for part in (first, rest) for one in part["tasks"]]
        assert sorted(one["retries"] for one in begun) == sorted(tasks)
        for one in begun:
            assert engine.wait_for(one["task_id"])["state"] == "done"
        again = retries(engine, host="img.example.com")
        assert (again["retried"], len(again["not_retried"])) == (0, 3)
        assert all("which is done" in one["reason"] for one in again["not_retried"])


def test_a_client_retries_its_own_tasks_within_its_sites(tmp_path: Path, edge: FakeNode) -> None:
    tables = tables_of(edge_1=edge) + '[[site]]\nhost = "*"\n'
    tables += token("cms", ["submit", "read"], 'sites = ["img.example.com"]\n')
    tables += token("ops", ["submit", "read", "admin"]) + token("reader", ["read"])
    with EngineProcess(tmp_path, tables) as engine:

        def ask(method: str, path: str, status: int, who: str, body: object = None) -> Any:
            answered, _, text = engine.request(method, path, body, {"Authorization": f"Bearer {who}"})
            assert answered == status, text
            return json.loads(text)

        def settled(task_id: str) -> bool:
            return bool(ask("GET", f"/v1/engine/task/{task_id}", 200, "ops")["state"] == "failed")

        of_cms = ask("POST", "/v1/engine/task", 202, "cms", {"targets": BAD[:1]})["task_id"]
        of_ops = ask("POST", "/v1/engine/task", 202, "ops", {"targets": BAD[1:2]})["task_id"]
        for task_id in (of_cms, of_ops):
            wait_until(partial(settled, task_id), what="the end")
        ask("POST", f"/v1/engine/task/{of_cms}/retry", 403, "reader")
        ask("POST", f"/v1/engine/task/{of_ops}/retry", 404, "cms")
        found = ask("POST", "/v1/engine/retries", 200, "cms", {"node": "edge-1"})
        assert [one["retries"] for one in found["tasks"]] == [of_cms]


@pytest.mark.slow
def test_a_task_is_retried_through_whichever_worker_is_asked(
    tmp_path: Path, edge: FakeNode, picky: Picky
) -> None:
    with SupervisedEngine(tmp_path, tables_of(edge_1=edge), workers=2) as engine:
        tasks = [engine.submit(BAD[place : place + 1]) for place in range(6)]
        for task_id in tasks:
            engine.wait_for(task_id, "failed")
        picky.is_mended = True
        for task_id in tasks:
            retried = retry(engine, task_id)
            found = engine.wait_for(retried["task_id"])
            assert (found["state"], found["retries"]) == ("done", task_id)


def test_the_command_retries_by_name_and_by_what_failed(
    tmp_path: Path, edge: FakeNode, picky: Picky, capsys: pytest.CaptureFixture[str]
) -> None:
    with EngineProcess(tmp_path, tables_of(edge_1=edge)) as engine:
        command = ["--engine", f"http://127.0.0.1:{engine.port}", "retry"]
        one, two = (engine.submit(BAD[place : place + 1], id=f"t{place}") for place in range(2))
        for task_id in (one, two):
            engine.wait_for(task_id, "failed")
        picky.is_mended = True
        assert main([*command, one, "--dry-run", "--wait"]) == 0
        assert capsys.readouterr().out.split() == [one, "1", "edge-1"]
        assert main([*command, "--node", "edge-1", "--dry-run"]) == 0
        assert capsys.readouterr().out.split() == [two, "1", "edge-1", one, "1", "edge-1"]
        assert main([*command, one, "--wait"]) == 0
        assert "done" in capsys.readouterr().out
        assert main([*command, one]) == 1
        assert "which is done" in capsys.readouterr().err
        assert main([*command, "--node", "edge-1", "--since", "1h"]) == 0
        shown = capsys.readouterr()
        assert shown.out.split() == [two, f"{two}.retry-1", "1", f"{two}.retry-1"]
        assert "t0 is not retried: what failed of task 't0' was sent again" in shown.err
        assert main(command) == 2
        assert main([*command, "nobody"]) == 2


@pytest.mark.redis
def test_engines_of_one_redis_retry_a_task_once_and_rewind_a_node(
    tmp_path: Path, edge: FakeNode, picky: Picky
) -> None:
    """Whichever engine is asked; what another engine has sent is in the history of both."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    with RedisServer(tmp_path) as redis, contextlib.ExitStack() as stack:
        tables = f'[store]\nurl = "{redis.url}"\n' + tables_of(edge_1=edge)
        one, other = (
            stack.enter_context(EngineProcess(tmp_path / name, tables)) for name in ("one", "other")
        )
        task_id = one.submit([*GOOD, *BAD])
        assert one.wait_for(task_id)["failed"] == len(BAD)
        picky.is_mended = True
        seen = len(edge.urls)
        retried = retry(other, task_id)
        assert (retried["task_id"], retried["total"]) == (f"{task_id}.retry-1", len(BAD))
        assert one.wait_for(retried["task_id"])["retries"] == task_id
        assert sorted(edge.urls[seen:]) == sorted(BAD)
        assert "which is done" in retry(one, task_id, 409)["detail"]
        seen = len(edge.urls)
        status, _, body = other.request("POST", "/v1/engine/rewind", {"node": "edge-1", "since": 0})
        assert status == 202, body
        for name in json.loads(body)["tasks"]:
            assert one.wait_for(name)["state"] == "done"
        assert sorted(edge.urls[seen:]) == sorted([*GOOD, *BAD])
