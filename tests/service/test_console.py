"""The operators' page as it is served: its files, their headers, and the stream of events."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import signal
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from engine.console.files import STATIC
from tests.fakes.node import FakeNode
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.supervised_engine import SupervisedEngine
from tests.rigs.viewer import EVENTS, EventViewer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_S = 6.0  #: of the page with a stream that says nothing
FILES = sorted(path.name for path in STATIC.iterdir())
PATHS = ["/", *(f"/console/{name}" for name in FILES if name != "index.html")]
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}
TOKENS = "".join(
    f'[[auth.tokens]]\nname = "{name}"\nscopes = ["{scope}"]\n'
    f'sha256 = "{hashlib.sha256(name.encode()).hexdigest()}"\n'
    for name, scope in (("reader", "read"), ("writer", "submit"))
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    with FakeNode() as node:
        tables = TOKENS + '[[site]]\nhost = "*"\n' + fake_table(node.url, name="edge-1")
        with EngineProcess(tmp_path_factory.mktemp("console"), tables, drain_timeout_s=5) as running:
            yield running
            assert "Traceback" not in running.log()


def ask(engine: EngineProcess, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Ask as a browser may, also with what ``/openapi.json`` leaves to HTTP."""
    connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=20)
    try:
        connection.request(
            method, path, headers={key.replace("_", "-"): value for key, value in headers.items()}
        )
        response = connection.getresponse()
        got = {key.lower(): value for key, value in response.getheaders()}
        return response.status, got, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("path", PATHS)
def test_each_file_is_sent_with_headers_that_let_nothing_else_in(engine: EngineProcess, path: str) -> None:
    """Without a token; and the same for HEAD."""
    status, headers, body = ask(engine, "GET", path)
    assert status == 200
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy == POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert "set-cookie" not in headers
    head = ask(engine, "HEAD", path)
    assert head[2] == b""
    for name in ("content-security-policy", "etag", "content-type", "content-length", "cache-control"):
        assert head[1][name] == headers[name], name
    assert int(headers["content-length"]) == len(body)


def test_a_file_that_a_browser_has_is_not_sent_again(engine: EngineProcess) -> None:
    _, headers, _ = ask(engine, "GET", "/console/app.js")
    assert headers["cache-control"] == "no-cache"
    status, again, body = ask(engine, "GET", "/console/app.js", If_None_Match=headers["etag"])
    assert (status, body, again["etag"]) == (304, b"", headers["etag"])
    assert again["content-security-policy"] == headers["content-security-policy"]
    assert ask(engine, "GET", "/console/app.js", If_None_Match='"other"')[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/console/nothing.js", "/console/index.html", "/console/..%2ffiles.py", "/console/", "/console/%00"],
)
def test_nothing_beside_the_files_is_served(engine: EngineProcess, path: str) -> None:
    assert ask(engine, "GET", path)[0] == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/console/nothing.js"), ("GET", "/console/a/b"), ("POST", "/console/app.js"), ("POST", "/")],
)
def test_what_is_refused_there_is_no_content_of_the_page_either(
    engine: EngineProcess, method: str, path: str
) -> None:
    """A browser neither guesses a type for it, nor frames it, nor runs anything in it."""
    status, headers, _ = ask(engine, method, path)
    assert status in {404, 405}
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"


def test_the_page_changes_nothing_by_a_get_and_takes_no_post(engine: EngineProcess) -> None:
    for path in ("/", "/console/app.js", EVENTS):
        assert ask(engine, "POST", path)[0] == 405


def test_the_page_is_small_and_asks_nobody_else() -> None:
    """No script in the page itself, no address of others, no markup out of text."""
    texts = {name: (STATIC / name).read_text(encoding="utf-8") for name in FILES}
    assert sum((STATIC / name).stat().st_size for name in FILES) <= 100_000
    page = texts["index.html"]
    assert not re.search(r"<script(?![^>]*\ssrc=\"/console/)", page)
    assert not re.search(r"\son\w+=|style=|javascript:", page)
    for name, text in texts.items():
        addresses = set(re.findall(r"https?://([\w.-]+)", text))
        assert addresses <= {"www.w3.org", "img.example.com"}, name
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text
        ), name
        assert not re.search(r"@import|url\(", text), name
        for module in re.findall(r'from "\./([\w.]+)"', text):
            assert module in texts, name


def test_a_link_is_a_link_to_those_who_hear_the_page() -> None:
    """A role would hide that it leads somewhere; a row of the list has a link in its head."""
    texts = [(STATIC / name).read_text(encoding="utf-8") for name in FILES]
    links = [props for text in texts for props in re.findall(r'h\("a[."][^{]*{([^}]*)}', text)]
    assert len(links) > 8
    assert not [props for props in links if "role" in props]
    tasks = (STATIC / "tasks.js").read_text(encoding="utf-8")
    assert 'h("div.listrow", {role: "row"' in tasks
    assert '"rowheader"' in tasks


def test_the_pictures_are_small_and_shown() -> None:
    """Each by its name in docs/console.md, and one in the README."""
    folder = STATIC.parents[2] / "docs"
    page = (folder / "console.md").read_text(encoding="utf-8")
    pictures = list((folder / "console").glob("*.png"))
    assert {path.name for path in pictures} == set(re.findall(r"\(console/([\w-]+\.png)\)", page))
    assert all(path.stat().st_size <= 100 * 1024 for path in pictures)
    assert "docs/console/fleet-light-1440.png" in (folder.parent / "README.md").read_text(encoding="utf-8")


def test_events_begin_with_who_asks_and_the_whole(engine: EngineProcess) -> None:
    with EventViewer(engine.port, "reader") as viewer:
        assert viewer.response.headers["Content-Type"] == "text/event-stream"
        assert viewer.response.headers["Cache-Control"] == "no-store"
        events = viewer.events()
        kind, hello = next(events)
        assert (kind, hello["token"], hello["scopes"]) == ("hello", "reader", ["read"])
        kind, whole = next(events)
        assert kind == "whole"
        assert [node["name"] for node in whole["nodes"]] == ["edge-1"]
        assert {"qps_proxy", "saver_queue"} <= whole["stats"].keys()
        assert whole["cluster"]["mode"] == "embedded"
        before = viewer.nodes["edge-1"]["acked"]
        status, *_ = engine.request(
            "POST",
            "/v1/engine/task",
            {"targets": ["http://img.example.com/a"]},
            {"Authorization": "Bearer writer"},
        )
        assert status == 202
        for kind, _ in events:
            assert kind == "change"
            if viewer.nodes["edge-1"]["acked"] > before:
                break


def test_events_are_for_those_who_may_read(engine: EngineProcess) -> None:
    for token, status in (("", 401), ("nobody", 401), ("writer", 403)):
        with EventViewer(engine.port, token) as viewer:
            assert viewer.response.status == status
    assert ask(engine, "HEAD", EVENTS, Authorization="Bearer reader")[0] == 200
    assert ask(engine, "GET", f"{EVENTS}?token=reader")[0] == 401  # a token is never part of an address


def test_an_engine_that_stops_is_not_held_up_by_those_who_watch(tmp_path: Path) -> None:
    with EngineProcess(tmp_path, "", drain_timeout_s=20) as engine:
        viewers = [EventViewer(engine.port) for _ in range(3)]
        streams = [viewer.events() for viewer in viewers]
        for stream in streams:
            assert [next(stream)[0] for _ in range(2)] == ["hello", "whole"]
        began = time.monotonic()
        assert engine.stop() == 0
        assert time.monotonic() - began < 15
        for viewer, stream in zip(viewers, streams, strict=True):
            assert [kind for kind, _ in stream][-1] == "bye"
            viewer.response.close()


def test_whichever_worker_is_asked_the_whole_engine_is_shown(tmp_path: Path) -> None:
    with (
        FakeNode() as node,
        SupervisedEngine(tmp_path, fake_table(node.url, name="edge-1"), workers=2) as engine,
    ):
        for number in range(20):
            engine.submit([f"http://img.example.com/{number}"])
        with EventViewer(engine.port) as viewer:
            events = viewer.events()
            for _kind, _ in events:
                if viewer.nodes and viewer.nodes["edge-1"]["acked"] == 20:
                    break


@pytest.mark.slow
def test_a_worker_that_hangs_does_not_blind_the_page_and_is_named(tmp_path: Path) -> None:
    """What it did before stays in the sums, and the picture says that this part is an older one."""
    with (
        FakeNode() as node,
        SupervisedEngine(tmp_path, fake_table(node.url, name="edge-1"), workers=2) as engine,
        EventViewer(engine.port) as viewer,
    ):
        for number in range(8):
            engine.submit([f"http://img.example.com/{number}"], id=f"t{number}")
            engine.wait_for(f"t{number}")
        events = viewer.events()
        watched = next(events)[1]["pid"]
        assert any(viewer.nodes.get("edge-1", {}).get("acked") == 8 for _ in events)
        (other,) = (worker for worker in engine.workers() if worker["pid"] != watched)
        os.kill(int(other["pid"]), signal.SIGSTOP)
        try:
            stopped = time.monotonic()
            trouble, at = "", []
            for _, told in events:
                at.append(time.monotonic())
                trouble = told.get("trouble", trouble)
                assert max(now - before for before, now in pairwise([stopped, *at])) < PATIENCE_S
                if trouble and len(at) >= 4:
                    break
            assert (
                trouble == f"worker {other['slot']} of this engine does not answer: its part is an older one"
            )
            assert viewer.nodes["edge-1"]["acked"] == 8
        finally:
            os.kill(int(other["pid"]), signal.SIGCONT)
        assert any(told.get("trouble") == "" for _, told in events)
