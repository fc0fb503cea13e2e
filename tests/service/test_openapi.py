"""Real answers of every route, errors included, are as ``/openapi.json`` describes them."""

import contextlib
import hashlib
import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from engine.api.openapi import statuses_of
from tests import described
from tests.fakes.node import OK, Act, FakeNode, Request, answer
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.waiting import wait_until

SCOPES = {
    "all": ["submit", "read", "admin"],
    "reader": ["read"],
    "writer": ["submit"],
}
BODY_MAX = 2000
ELSEWHERE = {
    ("DELETE", "/v1/engine/nodes/{name}", 200),  # tests/service/test_configuration_changes.py
    ("DELETE", "/v1/engine/rewind", 409),  # tests/service/test_rewind_of_engines.py
    ("POST", "/v1/engine/nodes/{name}/pause", 409),  # tests/service/test_pause.py
    ("POST", "/v1/engine/nodes/{name}/resume", 409),
    ("GET", "/v1/engine/history", 404),  # tests/service/test_history.py
    ("GET", "/v1/engine/tasks", 404),  # tests/service/test_listing_filters.py
    ("POST", "/v1/engine/retries", 404),  # there, too
    ("POST", "/v1/engine/silences", 409),  # tests/service/test_silences.py
    ("GET", "/v1/engine/events", 200),  # tests/service/test_console.py
    *(
        (route.method, route.path, status)
        for route in described.ROUTES
        for status in (400, 408, 417, 500, 503)
    ),
    *((route.method, route.path, 502) for route in described.ROUTES),  # tests/service/test_tree_views.py
}
"""What is described and not asked for here. Of what every route gives some routes stand for all: 400 and 417
here, 408 on both lanes in test_port.py, 500 in test_inner_errors.py, 503 in test_disk_full.py; the answers of
those tests are held to the document, too."""
TASK = {"id": "t-1", "targets": ["http://img.example.com/a"]}
LINES = b'{"targets":["http://img.example.com/b"]}\n{"id":"t-1","targets":["http://img.example.com/a"]}\n{"target":1}'
REPORT = {"host": "img.example.com", "method": "POST", "status": 200, "groups": '"a"'}
LARGE = {"targets": ["http://img.example.com/" + "x" * BODY_MAX]}


def held(request: Request) -> Iterator[bytes | Act]:
    """Answer nothing under /held, and 400 under /bad."""
    yield Act.HANG if "/held" in request.path else answer(400) if "/bad" in request.path else OK


def token(name: str, scopes: list[str], more: str = "") -> str:
    digest = hashlib.sha256(name.encode()).hexdigest()
    return f'[[auth.tokens]]\nname = "{name}"\nsha256 = "{digest}"\nscopes = {json.dumps(scopes)}\n{more}'


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    tables = "".join(token(name, scopes) for name, scopes in SCOPES.items())
    tables += token("slow", ["submit"], "rate_per_s = 0.001\nburst_count = 1\n")
    tables += token("rare", ["read"], "rate_per_s = 0.001\nburst_count = 1\n")
    tables += '[[site]]\nhost = "*"\n'
    with FakeNode(held) as node:
        tables += fake_table(node.url, name="edge-1", driver="ats")
        folder = tmp_path_factory.mktemp("described")
        with EngineProcess(folder, tables, body_max_bytes=BODY_MAX, drain_timeout_s=0.5) as running:
            yield running
            assert "Traceback" not in running.log()


class Asking:
    """Asks, and holds each answer to the document.

    Attributes:
        seen: method, path of the document, and status of what was answered.
    """

    def __init__(self, engine: EngineProcess) -> None:
        self._engine = engine
        self.seen: set[tuple[str, str, int]] = set()

    def ask(
        self, method: str, path: str, status: int, body: object = None, who: str = "all", **headers: str
    ) -> Any:
        if who:
            headers["Authorization"] = f"Bearer {who}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answered, got, text = self._engine.request(method, path, body, named)
        assert answered == status, (method, path, text)
        self.seen.add((method, described.check(method, path, answered, got, text), answered))
        return text

    def status(self, method: str, path: str) -> int:
        """Ask what is answered differently by and by; return the status."""
        answered, got, text = self._engine.request(method, path, None, {"Authorization": "Bearer all"})
        self.seen.add((method, described.check(method, path, answered, got, text), answered))
        return answered


def test_the_engine_serves_what_its_classes_declare(engine: EngineProcess) -> None:
    """Without a token; so what the documentation is made from is what is served."""
    status, headers, body = engine.request("GET", "/openapi.json")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body) == described.document()


def test_real_answers_are_as_they_are_described(engine: EngineProcess) -> None:
    asking = Asking(engine)
    ask = asking.ask
    _ask_about_tasks(engine, asking)
    for path in (
        "/v1/engine/nodes",
        "/v1/engine/cluster",
        "/v1/engine/stats",
        "/v1/engine/tasks",
        "/v1/engine/history",
    ):
        ask("GET", path, 200)
        ask("GET", path, 401, who="")
        ask("GET", path, 403, who="writer")
        ask("GET", path + "?x=1", 422)
    for path in ("/version", "/v1/engine/version", "/healthz", "/readyz", "/openapi.json"):
        ask("GET", path, 200, who="")
    ask("GET", "/v1/engine/version?x=1", 422)
    for who, status in (("reader", 200), ("", 401), ("writer", 403)):
        ask("GET", "/metrics", status, who=who)
    _ask_again(engine, asking)
    node = "/v1/engine/nodes/edge-1"
    for path, who, status in (
        (node, "", 401),
        (node, "reader", 403),
        ("/v1/engine/nodes/edge-9", "all", 404),
        (node, "all", 409),
        (node + "?force=1", "all", 422),
    ):
        ask("DELETE", path, status, who=who)
    for verb in ("pause", "resume"):
        ask("POST", f"{node}/{verb}", 200)
        ask("GET", "/v1/engine/nodes", 200)
        ask("POST", f"{node}/{verb}", 401, who="")
        ask("POST", f"{node}/{verb}", 403, who="reader")
        ask("POST", f"/v1/engine/nodes/edge-9/{verb}", 404)
        ask("POST", f"{node}/{verb}?x=1", 422)
    _ask_for_silences(asking)
    _ask_for_the_page(asking)
    _ask_why(asking)
    _ask_from_above(asking)
    _ask_for_recordings(engine, asking)
    _ask_to_look_inside(engine, asking)
    log_format = "/v1/engine/log-format"
    ask("PUT", log_format, 200, {"format": "struct"})
    ask("PUT", log_format, 422, {"format": "xml"})
    _ask_with_bodies(asking, "PUT", log_format)
    ask("PATCH", "/v1/engine/tasks", 405)
    ask("GET", "/v1/engine/nothing", 404)
    ask("GET", "/healthz", 417, Expect="rain")
    declared = {(r.method, r.path, s) for r in described.ROUTES for s in (*r.answers, *statuses_of(r))}
    assert declared - asking.seen <= ELSEWHERE


def _ask_about_tasks(engine: EngineProcess, asking: Asking) -> None:
    ask = asking.ask
    ask("POST", "/v1/engine/task", 202, TASK)
    ask("POST", "/v1/engine/task", 200, TASK)
    ask("POST", "/v1/engine/task?dry_run=1", 200, TASK)
    ask("POST", "/v1/engine/task", 409, {**TASK, "soft": True})
    ask("POST", "/v1/engine/task", 422, {**TASK, "kin": "url"})
    ask("POST", "/v1/engine/task", 400, b"{")
    ask("POST", "/v1/engine/task", 202, {"targets": ["http://img.example.com/c"]}, who="slow")
    ask("POST", "/v1/engine/task", 429, {"targets": ["http://img.example.com/c"]}, who="slow")
    text = ask("POST", "/v1/engine/tasks", 200, LINES)
    assert len(text.splitlines()) == 3
    ask("POST", "/v1/engine/tasks?x=1", 422, LINES)
    for path in ("/v1/engine/task", "/v1/engine/tasks"):
        _ask_with_bodies(asking, "POST", path)
    ask("POST", "/v1/engine/task", 202, {"id": "held", "targets": ["http://img.example.com/held"]})
    for method, stranger in (("GET", "writer"), ("DELETE", "reader")):
        ask(method, "/v1/engine/task/t-1", 401, who="")
        ask(method, "/v1/engine/task/t-1", 403, who=stranger)
        ask(method, "/v1/engine/task/nobody", 404)
        ask(method, "/v1/engine/task/t-1?x=1", 422)
    ask("GET", "/v1/engine/task/t-1", 200)
    wait_until(lambda: b'"done"' in ask("GET", "/v1/engine/task/t-1", 200))
    _ask_for_receipts(asking)
    ask("DELETE", "/v1/engine/task/held", 200)
    ask("DELETE", "/v1/engine/task/held", 409)


def _ask_for_recordings(engine: EngineProcess, asking: Asking) -> None:
    path = "/v1/engine/recording"
    asking.ask("GET", f"{path}?seconds=0.1&share=0.5", 200)
    asking.ask("GET", path, 401, who="")
    asking.ask("GET", path, 403, who="writer")
    asking.ask("GET", f"{path}?share=2", 422)
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            other = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=20)
            stack.callback(other.close)
            other.request("GET", path, headers={"Authorization": "Bearer all"})
            stack.enter_context(other.getresponse())
        asking.ask("GET", path, 409)


def _ask_to_look_inside(engine: EngineProcess, asking: Asking) -> None:
    for look, query in (
        ("threads", ""),
        ("tasks", ""),
        ("gc", "seconds=0.1"),
        ("loop", "seconds=0.1&threshold_ms=5"),
        ("profile", "seconds=0.1"),
        ("heap", "top=3"),
    ):
        path = f"/v1/engine/debug/{look}"
        asking.ask("GET", f"{path}?{query}", 200)
        asking.ask("GET", path, 401, who="")
        asking.ask("GET", path, 403, who="reader")
        asking.ask("GET", f"{path}?worker=7", 404)
        asking.ask("GET", f"{path}?worker=-1", 422)
    trace = "/v1/engine/debug/gc/trace"
    for query, who, status in (
        ("seconds=0.1", "all", 200),
        ("", "", 401),
        ("", "reader", 403),
        ("worker=7", "all", 404),
        ("seconds=601", "all", 422),
    ):
        asking.ask("GET", f"{trace}?{query}", status, who=who)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", engine.port, timeout=20)) as other:
        other.request("GET", "/v1/engine/debug/loop", headers={"Authorization": "Bearer all"})
        wait_until(lambda: asking.status("GET", "/v1/engine/debug/loop?seconds=0.1") == 409)
    wire = "/v1/engine/debug/nodes/edge-1/wire"
    for path, who, status in (
        (f"{wire}?seconds=0.1", "all", 200),
        (wire, "", 401),
        (wire, "reader", 403),
        ("/v1/engine/debug/nodes/edge-9/wire", "all", 404),
        (f"{wire}?count=0", "all", 422),
    ):
        asking.ask("GET", path, status, who=who)
    task = "/v1/engine/debug/task"
    for path, who, status in (
        (f"{task}/t-1", "all", 200),
        (f"{task}/t-1", "", 401),
        (f"{task}/t-1", "reader", 403),
        (f"{task}/nobody", "all", 404),
        (f"{task}/t-1?worker=x", "all", 422),
    ):
        asking.ask("GET", path, status, who=who)
    for look in ("profile", "heap", "nodes/edge-1/wire"):
        path = f"/v1/engine/debug/{look}?seconds=30"
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", engine.port, timeout=20)) as other:
            other.request("GET", path, headers={"Authorization": "Bearer all"})
            wait_until(lambda path=path: asking.status("GET", path.replace("30", "0.1")) == 409)  # type: ignore[misc]


def _ask_for_silences(asking: Asking) -> None:
    ask, path = asking.ask, "/v1/engine/silences"
    silence = {"matchers": ["kind=node"], "reason": "new disks", "for_s": 60}
    made = json.loads(ask("POST", path, 200, silence))
    for wrong in ({"matchers": ["nodes=x"]}, {"reason": " "}, {"for_s": 0}, {"until": 1e9}, {"more": 1}):
        ask("POST", path, 422, silence | wrong)
    ask("POST", path, 422, {"matchers": ["kind=node"], "reason": "no end"})
    _ask_with_bodies(asking, "POST", path)
    ask("GET", path, 200)
    ask("GET", path, 401, who="")
    ask("GET", path, 403, who="writer")
    ask("GET", path + "?x=1", 422)
    assert json.loads(ask("DELETE", f"{path}/{made['id']}", 200))["state"] == "ended"
    ask("DELETE", f"{path}/{made['id']}", 200)
    ask("DELETE", f"{path}/none", 404)
    ask("DELETE", f"{path}/none", 401, who="")
    ask("DELETE", f"{path}/none", 403, who="reader")
    ask("DELETE", f"{path}/none?x=1", 422)


def _ask_for_the_page(asking: Asking) -> None:
    ask = asking.ask
    ask("GET", "/", 200, who="")
    for file in ("app.js", "style.css", "icon.svg"):
        ask("GET", f"/console/{file}", 200, who="")
    ask("GET", "/console/nothing.js", 404, who="")
    events = "/v1/engine/events"  # a stream that does not end: tests/service/test_console.py
    ask("GET", events, 401, who="")
    ask("GET", events, 403, who="writer")
    ask("GET", f"{events}?x=1", 422)
    check = "/v1/engine/nodes/edge-1/check"
    ask("POST", check, 200)
    ask("POST", check, 401, who="")
    ask("POST", check, 403, who="reader")
    ask("POST", "/v1/engine/nodes/edge-9/check", 404)
    ask("POST", f"{check}?x=1", 422)


def _ask_why(asking: Asking) -> None:
    why = "/v1/engine/why?url=http://img.example.com/a"
    asking.ask("GET", why, 200)
    asking.ask("GET", why, 401, who="")
    asking.ask("GET", why, 403, who="writer")
    asking.ask("GET", "/v1/engine/why?url=ftp://img.example.com/a", 422)
    asking.ask("GET", why, 200, who="rare")
    asking.ask("GET", why, 429, who="rare")


def _ask_from_above(asking: Asking) -> None:
    ask = asking.ask
    named = {"Purgeline_Nonce": "1f", "Purgeline_Tree_Path": f"root~{'k' * 43}"}
    own = _kid(asking)
    for path, body in (
        ("/v1/engine/tree/tasks", b'{"id":"t-2","targets":["http://img.example.com/d"]}\n'),
        ("/v1/engine/tree/ask", {"tasks": {"t-2": ""}, "wait_s": 0}),
        ("/v1/engine/tree/cancel", {"tasks": ["t-2"]}),
    ):
        ask("POST", path, 200, body, **named)
        ask("POST", path, 422, body)
        ask("POST", path, 409, body, **{**named, "Purgeline_Tree_Path": f"root~{own}"})
        ask("POST", path, 401, body, who="", **named)
        ask("POST", path, 403, body, who="writer" if path.endswith("ask") else "reader", **named)
        ask("POST", f"{path}?x=1", 422, body, **named)
        ask("POST", path, 413, LARGE, **named)
        ask("POST", path, 415, body, **named, Content_Encoding="gzip")


def _kid(asking: Asking) -> str:
    return str(json.loads(asking.ask("GET", "/v1/engine/keys", 200, who=""))["keys"][0]["kid"])


def _ask_for_receipts(asking: Asking) -> None:
    for task_id, who, status in (
        ("t-1", "all", 200),
        ("held", "all", 409),
        ("nobody", "all", 404),
        ("t-1", "", 401),
        ("t-1", "writer", 403),
    ):
        asking.ask("GET", f"/v1/engine/task/{task_id}/receipt", status, who=who)
    asking.ask("GET", "/v1/engine/task/t-1/receipt?x=1", 422)
    asking.ask("GET", "/v1/engine/keys", 200, who="")
    asking.ask("GET", "/v1/engine/keys?x=1", 422)


def _ask_again(engine: EngineProcess, asking: Asking) -> None:
    ask = asking.ask
    bad = "/v1/engine/task/bad/retry"
    ask("POST", "/v1/engine/task", 202, {"id": "bad", "targets": ["http://img.example.com/bad"]})
    is_failed = lambda: json.loads(ask("GET", "/v1/engine/task/bad", 200))["state"] == "failed"  # noqa: E731
    wait_until(is_failed, what="the end")
    ask("POST", bad, 401, who="")
    ask("POST", bad, 403, who="reader")
    ask("POST", f"{bad}?x=1", 422)
    ask("POST", f"{bad}?dry_run=1", 200)
    ask("POST", "/v1/engine/task/nobody/retry", 404)
    ask("POST", "/v1/engine/task/t-1/retry", 409)
    ask("POST", bad, 429, who="slow")
    ask("POST", bad, 202)
    retries = "/v1/engine/retries"
    ask("POST", retries, 200, {"node": "edge-1", "since": 0})
    ask("POST", retries, 422, {})
    ask("POST", retries, 422, {"node": 1})
    ask("POST", retries, 400, b"{")
    _ask_with_bodies(asking, "POST", retries)
    groups = "/v1/engine/group-reports"
    ask("POST", groups, 200, {"reports": [REPORT, {**REPORT, "method": "GET"}]})
    ask("POST", groups, 422, {"reports": [{}]})
    ask("POST", groups, 422, {"report": []})
    ask("POST", f"{groups}?x=1", 422)
    ask("POST", groups, 400, b"{")
    _ask_with_bodies(asking, "POST", groups)
    rewind = "/v1/engine/rewind"
    ask("POST", rewind, 202, {"node": "edge-1", "since": 0, "rate_per_s": 0.01})
    ask("POST", rewind, 409, {"node": "edge-1", "since": 0})
    ask("POST", rewind, 404, {"node": "edge-9", "since": 0})
    ask("POST", rewind, 422, {"node": "edge-1"})
    ask("POST", rewind, 400, b"{")
    _ask_with_bodies(asking, "POST", rewind)
    ask("DELETE", f"{rewind}?node=edge-1", 401, who="")
    ask("DELETE", f"{rewind}?node=edge-1", 403, who="reader")
    ask("DELETE", rewind, 422)
    ask("DELETE", f"{rewind}?node=edge-1", 200)
    ask("DELETE", f"{rewind}?node=edge-1", 404)


def _ask_with_bodies(asking: Asking, method: str, path: str) -> None:
    """Ask with what no route takes that has a body."""
    asking.ask(method, path, 401, TASK, who="")
    asking.ask(method, path, 403, TASK, who="reader")
    asking.ask(method, path, 413, LARGE)
    asking.ask(method, path, 415, b"x", Content_Type="text/plain")
