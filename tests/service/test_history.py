"""Who purged it, when, and did that node do it? Asked of a real engine."""

import hashlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.fakes.node import OK, Act, FakeNode, Request, always
from tests.rigs.engine_process import ROOT, EngineProcess, fake_table
from tests.rigs.redis_servers import RedisServer
from tests.rigs.supervised_engine import SupervisedEngine
from tests.waiting import wait_until

URL = "http://img.example.com/a.jpg"


@pytest.fixture
def node() -> Iterator[FakeNode]:
    with FakeNode() as running:
        yield running


def history(engine: EngineProcess, target: str = "", **query: str) -> list[dict[str, Any]]:
    if target:
        query["target"] = target
    words = "&".join(f"{key}={quote(value, safe='')}" for key, value in query.items())
    page = engine.get(f"/v1/engine/history?{words}")
    assert "incomplete" not in page, page
    return list(page["tasks"])


def command(engine: EngineProcess, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "engine", "--engine", f"http://127.0.0.1:{engine.port}", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_a_stale_page_is_explained(tmp_path: Path, node: FakeNode) -> None:
    """The customer's question: a node was away when it was purged, and is back; the answer is one command."""
    away = FakeNode()
    with away:
        pass  # it has a port now, and keeps it
    tables = fake_table(node.url, name="edge-1", driver="ats") + fake_table(
        away.url, name="edge-7", driver="ats"
    )
    with EngineProcess(tmp_path, tables, due_s=0.2) as engine:
        task_id = engine.submit([URL])
        engine.wait_for(task_id, "partial")

        def outcomes() -> dict[str, str]:
            return {
                one["name"]: one["outcome"]
                for task in history(engine, URL, state="partial")
                for one in task["nodes"]
            }

        wanted = {"edge-1": "acked", "edge-7": "delayed"}
        wait_until(lambda: outcomes() == wanted, what="what each node did")
        [line] = command(engine, "history", URL, "--node", "edge-7", "--since", "1h").splitlines()
        columns = line.split("\t")
        assert (columns[3], columns[4], columns[6], columns[7]) == ("url", URL, "edge-7 delayed", task_id)
        with away:
            engine.wait_for(task_id, "done")
            [task] = history(engine, URL)
            assert task["state"] == "done"
            assert {one["outcome"] for one in task["nodes"]} == {"acked"}
    assert "Traceback" not in engine.log()


def test_what_failed_is_known_target_by_target(tmp_path: Path) -> None:
    def script(request: Request) -> Iterator[bytes]:
        yield (
            b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n"
            if "bad" in request.path
            else (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        )

    with (
        FakeNode(script) as node,
        EngineProcess(tmp_path, fake_table(node.url, name="edge-1", driver="ats")) as engine,
    ):
        engine.wait_for(engine.submit([URL, f"{URL}?bad"]), "failed")
        [of_bad] = history(engine, f"{URL}?bad")
        [of_good] = history(engine, URL)
    assert [of_bad["nodes"][0]["outcome"], of_good["nodes"][0]["outcome"]] == ["failed", "acked"]
    assert of_bad["errors"][0]["target"] == f"{URL}?bad"


def test_nothing_is_lost_by_a_crash(tmp_path: Path, node: FakeNode) -> None:
    """What was answered as settled is in the history after ``kill -9``, though no block was written."""
    with EngineProcess(tmp_path, fake_table(node.url, name="edge-1", driver="ats")) as engine:
        ids = [engine.submit([f"{URL}?{number}"]) for number in range(20)]
        for task_id in ids:
            engine.wait_for(task_id, "done")
        engine.kill()
        engine.start()
        assert [task["task_id"] for task in history(engine, limit="100")] == ids[::-1]
        assert {task["nodes"][0]["outcome"] for task in history(engine, limit="100")} == {"acked"}


def test_a_damaged_history_is_said_and_purges_go_on(tmp_path: Path, node: FakeNode) -> None:
    engine = EngineProcess(tmp_path, fake_table(node.url, name="edge-1", driver="ats"))
    (tmp_path / "var").mkdir()
    (tmp_path / "var/history-0.db").write_bytes(b"no database" * 1000)
    with engine:
        engine.wait_for(engine.submit([URL]), "done")
        page = engine.get("/v1/engine/history")
        assert len(page["tasks"]) == 1
        assert "was damaged" in page["incomplete"]
        wait_until(lambda: '"alert":"history"' in engine.log(), what="the alert")
    assert engine.log().count("was damaged") == 2  # once where it was found, and once as an alert


def test_a_token_sees_its_own(tmp_path: Path, node: FakeNode) -> None:
    tables = fake_table(node.url, name="edge-1", driver="ats") + '[[site]]\nhost = "*.example.com"\n'
    for name, sites in (("all", []), ("narrow", ["img.example.com"])):
        lines = {
            "name": name,
            "sha256": hashlib.sha256(name.encode()).hexdigest(),
            "scopes": ["submit", "read"],
            "sites": sites,
        }
        tables += "[[auth.tokens]]\n" + "".join(
            f"{key} = {json.dumps(value)}\n" for key, value in lines.items()
        )
    with EngineProcess(tmp_path, tables) as engine:

        def ask(token: str, query: str = "") -> list[str]:
            lines = {"Authorization": f"Bearer {token}"}
            status, _, body = engine.request("GET", f"/v1/engine/history{query}", headers=lines)
            assert status == 200, body
            return [task["by"]["token"] for task in json.loads(body)["tasks"]]

        for token in ("all", "narrow"):
            body = json.dumps({"id": token, "targets": [URL]}).encode()
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            assert engine.request("POST", "/v1/engine/task", body, headers=headers)[0] == 202
        wait_until(lambda: len(ask("all")) == 2, what="both tasks")
        assert ask("narrow") == ["narrow"]
        assert ask("narrow", f"?target={quote(URL)}&by=all") == []
        assert ask("all", "?by=narrow") == ["narrow"]


@pytest.mark.slow
def test_workers_answer_as_one_and_through_a_reload(tmp_path: Path, node: FakeNode) -> None:
    tables = fake_table(node.url, name="edge-1", driver="ats")
    with SupervisedEngine(tmp_path, tables, workers=2, drain_timeout_s=2) as engine:
        ids = [engine.submit([f"{URL}?{number}"]) for number in range(30)]
        for task_id in ids:
            engine.wait_for(task_id, "done")
        engine.reload()
        found: list[str] = []
        query = "limit=7"
        while query:
            page = engine.get(f"/v1/engine/history?{query}")
            found += [task["task_id"] for task in page["tasks"]]
            query = page["cursor"] and f"limit=7&cursor={page['cursor']}"
        assert found == ids[::-1]
        assert len(history(engine, f"{URL}?17")) == 1


HOSTILE = [
    "http://img.example.com/'; DROP TABLE block;--",
    'http://img.example.com/"quoted"?a=%00%0d%0a&b=\\u0041',
    "http://img.example.com/%F0%9F%92%A9/%ff%fe",
    "http://img.example.com/" + "x" * 2000,
    "http://img.example.com/$(id)`id`{}[]|<>^~",
    "http://bücher.example/ümläut",
    "http://IMG.example.com:80/../../etc/passwd",
]


def test_hostile_targets_are_found_and_sent_once_more_as_they_are(tmp_path: Path, node: FakeNode) -> None:
    with EngineProcess(tmp_path, fake_table(node.url, name="edge-1")) as engine:
        taken: dict[str, str] = {}
        for target in HOSTILE:
            status, _, body = engine.request("POST", "/v1/engine/task", {"targets": [target]})
            assert status in {202, 422}, body
            if status == 202:
                taken[json.loads(body)["task_id"]] = target
        assert len(taken) >= 5
        slow = engine.submit([r"http://img.example.com/(a+)+\.jpg"], kind="regex")
        for task_id in (*taken, slow):
            engine.wait_for(task_id)
        for task_id, target in taken.items():
            assert task_id in [task["task_id"] for task in history(engine, target)], target
        assert history(engine, "http://img.example.com/" + "a" * 40) == []
        sent = sorted(node.urls)
        status, _, body = engine.request("POST", "/v1/engine/rewind", {"node": "edge-1", "since": 0})
        assert status == 202, body
        for task_id in json.loads(body)["tasks"]:
            engine.wait_for(task_id, "done")
        assert sorted(node.urls) == sorted(2 * sent)
        for query in (
            "target=%00",
            "target=http://a/%0a",
            "target=%ed%a0%80",
            "target=" + "x" * 5000,
            "host=*",
            "host=%27%20OR%201=1",
            "node=%27;--",
            "by=%22%5d",
            "cursor=nan~x",
            "cursor=1e400~",
            "cursor=" + "9" * 200,
            "since=1e999",
            "limit=0",
            "limit=99999999999999999999",
        ):
            status, _, body = engine.request("GET", f"/v1/engine/history?{query}")
            assert status in {200, 422}, (query, body)
            assert status == 422 or "incomplete" not in json.loads(body), (query, body)
    assert "Traceback" not in engine.log()


def test_a_history_that_is_off_says_so(tmp_path: Path, node: FakeNode) -> None:
    tables = fake_table(node.url, name="edge-1", driver="ats")
    with EngineProcess(tmp_path, tables, history_days=0) as engine:
        engine.wait_for(engine.submit([URL]), "done")
        status, _, body = engine.request("GET", "/v1/engine/history")
        assert status == 404
        assert b"history_days" in body
        assert engine.stop() == 0
    assert not list((tmp_path / "var").glob("history*"))


def _checkout(folder: Path, *, has_history: bool) -> Path:
    """Make a folder that workers take the engine from: of this version, or of one that knows no history."""
    folder.mkdir()
    if has_history:
        (folder / "engine").symlink_to(ROOT / "engine")
        return folder
    shutil.copytree(ROOT / "engine", folder / "before")
    (folder / "engine").symlink_to("before")
    path = folder / "engine/api/worker_api.py"
    text = path.read_text().replace('"/worker/history"', '"/worker/none-yet"')
    assert text != path.read_text()
    path.write_text(text)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("has_history", [True, False], ids=["this version", "a version before"])
def test_pages_are_whole_while_workers_of_two_versions_run(tmp_path: Path, *, has_history: bool) -> None:
    """The old workers drain, with a task each; the new ones answer, and say it when an old one cannot."""
    is_held = threading.Event()

    def script(request: Request) -> Iterator[bytes]:
        if "held" in request.path:
            is_held.wait(30)
        yield OK

    checkout = _checkout(tmp_path / "checkout", has_history=has_history)
    with FakeNode(script) as node:
        tables = fake_table(node.url, name="edge-1", driver="ats")
        settings: dict[str, Any] = {"drain_timeout_s": 25, "request_timeout_s": 30}
        settings["env"] = {"PYTHONPATH": str(checkout)}
        with SupervisedEngine(tmp_path, tables, workers=2, **settings) as engine:
            ids = [engine.submit([f"{URL}?{number}"]) for number in range(20)]
            for task_id in ids:
                engine.wait_for(task_id, "done")
            held = [engine.submit([f"{URL}?held={number}"]) for number in range(6)]
            (checkout / "engine").unlink()
            (checkout / "engine").symlink_to(ROOT / "engine")
            engine.wait_for_quiet()
            with ThreadPoolExecutor(1) as threads:
                reload = threads.submit(engine.reload)
                wait_until(
                    lambda: len(engine.workers()) == len(engine.workers("draining")) == 2,
                    what="workers of both versions",
                )
                ids += [engine.submit([f"{URL}?new={number}"]) for number in range(10)]
                for task_id in ids[20:]:
                    engine.wait_for(task_id, "done")
                found: list[str] = []
                said: set[str] = set()
                query = "limit=7"
                while query:
                    page = engine.get(f"/v1/engine/history?{query}")
                    found += [task["task_id"] for task in page["tasks"]]
                    said.add(page.get("incomplete", ""))
                    query = page["cursor"] and f"limit=7&cursor={page['cursor']}"
                assert len(engine.workers("draining")) == 2
                is_held.set()
                reload.result(30)
            if has_history:
                assert (found, said) == ([*ids[:19:-1], *held[::-1], *ids[19::-1]], {""})
            else:
                assert [task_id for task_id in found if task_id not in held] == ids[::-1]
                assert said == {"a worker of this engine cannot read its history"}
            assert [task["task_id"] for task in history(engine, limit="100")] == [
                *ids[:19:-1],
                *held[::-1],
                *ids[19::-1],
            ]
    assert "Traceback" not in engine.log()


@pytest.mark.slow
@pytest.mark.redis
def test_workers_of_one_redis_show_what_each_of_them_works_on(tmp_path: Path) -> None:
    with FakeNode(always(Act.HANG)) as node, RedisServer(tmp_path) as redis:
        tables = f'[store]\nurl = "{redis.url}"\n' + fake_table(node.url, name="edge-1", driver="ats")
        with SupervisedEngine(tmp_path, tables, workers=2, drain_timeout_s=1) as engine:
            ids = [engine.submit([f"{URL}?{number}"]) for number in range(12)]
            for _ in range(8):  # each is a connection of its own
                found = history(engine)
                assert [task["task_id"] for task in found] == ids[::-1]
                assert {task["nodes"][0]["outcome"] for task in found} == {"sent"}
