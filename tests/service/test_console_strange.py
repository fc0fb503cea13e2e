"""The operators' page with what is hostile, and for those who see or point in another way."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.fakes.node import FakeNode, Request, answer
from tests.rigs import browser as browsers
from tests.rigs.browser import Browser
from tests.rigs.engine_process import EngineProcess, fake_table, layer_tables
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

AUDIT = (Path(browsers.__file__).parent / "accessibility.js").read_text(encoding="utf-8")
EVIL = "<img/src=x/onerror=pwned=1><script>pwned=1</script>\"'`&lt;${pwned=1}"
EVIL_PATH = "/<img/src=x/onerror=pwned=1><script>pwned=1</script>\"'&lt;"
PAGE_URL = f"http://img.example.com{EVIL_PATH}"
MENDED: set[str] = set()  #: paths below /bad that the cache takes by now
NAME = ("<b onclick=pwned=1>\u202e\u2066evil" + "N" * 200)[:200]  #: of a token, in a configuration of before
VIEWS = (
    "#/fleet",
    "#/fleet/edge-7",
    "#/tasks",
    "#/task/settled",
    "#/task/failed",
    "#/purge",
    "#/cluster",
    "#/url",
)


def script(request: Request) -> Iterator[bytes]:
    """Answer purges of /bad with 400 and of others with 200; visits get hostile fields."""
    if request.method == "GET":
        yield answer(200, EVIL.encode(), f'ETag: "{EVIL}"', f"Last-Modified: {EVIL}", f"Cache-Status: {EVIL}")
    elif request.path.startswith("/bad") and request.path not in MENDED:
        yield answer(400, EVIL.encode(), f"X-Purger: {EVIL}")
    else:
        yield answer()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """An engine of one layer, with a cache that is away, and tasks that are done, failed, and wait."""
    with FakeNode(script) as edge, FakeNode() as away:
        tables = layer_tables("parent", "edge") + fake_table(away.url, name="parent-1", layer="parent")
        tables += fake_table(edge.url, name="edge-7")
        with EngineProcess(tmp_path_factory.mktemp("strange"), tables) as running:
            running.submit([PAGE_URL], id="settled")
            running.wait_for("settled")
            running.submit([f"http://img.example.com/bad{EVIL_PATH}"], id="failed")
            running.wait_for("failed", "failed")
            away.stop()
            running.submit([PAGE_URL], id="waits", due_s=1)
            running.wait_for("waits", "partial")
            yield running


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


def show(window: Browser, engine: EngineProcess, view: str) -> None:
    """Show a view, and wait until it has what it shows."""
    window.open(f"http://127.0.0.1:{engine.port}/{view}")
    window.see(".pill", "live")
    ready = {
        "fleet": ".tile",
        "tasks": ".listrow a",
        "task": ".taskhead",
        "purge": "input[name=node]",
        "cluster": "h2",
    }
    window.see(ready.get(view.split("/")[1].partition("?")[0], "main"))


@pytest.fixture
def other_site() -> Iterator[str]:
    """A web server that has an empty page at every address; yields its URL."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_a_page_of_another_site_does_nothing_by_way_of_a_browser(
    window: Browser, engine: EngineProcess, other_site: str
) -> None:
    """Chromium sends these without asking the engine first: a body without a type, and none at all."""
    window.open(other_site)
    window.run(
        """
        const [engine, done] = [arguments[0], []]
        const task = new Blob(['{"id": "forged", "targets": ["http://img.example.com/forged"]}'])
        for (const [path, body] of [["task", task], ["tasks", task], ["nodes/edge-7/pause", undefined]])
            done.push(fetch(`${engine}/v1/engine/${path}`, {method: "POST", mode: "no-cors", body}))
        Promise.allSettled(done).then(() => { document.title = "asked" })
        """,
        f"http://127.0.0.1:{engine.port}",
    )
    wait_until(lambda: window.driver.title == "asked", what="the requests being answered")
    assert engine.request("GET", "/v1/engine/task/forged")[0] == 404
    [edge] = [node for node in engine.get("/v1/engine/nodes")["nodes"] if node["name"] == "edge-7"]
    assert edge["state"] != "paused"
    window.errors()  # Chromium's own, of requests that were refused


def test_what_is_hostile_is_shown_as_the_text_that_it_is(window: Browser, engine: EngineProcess) -> None:
    """In each view: targets, reasons, fields of answers, filters and fields of the page itself."""
    by_address = [
        f"#/fleet?q={quote(EVIL)}",
        f"#/tasks?by={quote(EVIL)}",
        f"#/task/{quote(EVIL, safe='')}",
        f"#/{quote(EVIL)}",
        "#/constructor",
    ]
    for view in (*VIEWS, *by_address, f"#/fleet/{quote(EVIL, safe='')}", f"#/url?url={quote(PAGE_URL)}"):
        window.open(f"http://127.0.0.1:{engine.port}/{view}")
        window.see(".pill", "live")
        window.see("main")
        if "url=" in view:
            window.see(".sentence")
        if view in {"#/task/failed", "#/task/settled", "#/tasks"}:
            window.see("main", "<script>pwned=1</script>")
        assert window.run("return window.pwned") is None, view
        own = window.run(
            "return [document.scripts.length, document.images.length,"
            "document.querySelectorAll('main script, main img').length]"
        )
        assert own == [1, 1, 0], view
    show(window, engine, f"#/purge?url={quote(PAGE_URL)}&nodes={quote(EVIL[:60])}")
    window.click("button[type=submit]", "Preview")
    window.see(".problem", "<img")  # no such node: what is behind the / would be one below it
    assert window.run("return window.pwned") is None
    said = [one for one in window.errors() if "Last-Modified" not in one]
    assert said == []


def test_markup_made_out_of_text_is_refused_by_the_browser_itself(
    window: Browser, engine: EngineProcess
) -> None:
    """So a mistake in a view is no hole."""
    show(window, engine, "#/fleet")
    for code in (
        "document.body.innerHTML = '<b>x</b>'",
        "document.body.insertAdjacentHTML('beforeend', '<b>x</b>')",
        "document.write('<b>x</b>')",
    ):
        refused = window.run(f"try {{ {code}; return '' }} catch (error) {{ return error.message }}")
        assert "TrustedHTML" in refused, code
    blocked = window.run(
        "const made = document.createElement('style'); made.textContent = 'body { color: red }';"
        "document.head.append(made); return getComputedStyle(document.body).color"
    )
    assert blocked != "rgb(255, 0, 0)"
    window.errors().clear()  # what was tried here


@pytest.mark.parametrize(
    "size",
    [
        pytest.param((1440, 900), id="wide"),
        pytest.param((360, 740), id="narrow", marks=pytest.mark.slow),
        pytest.param((3840, 2160), id="4K", marks=pytest.mark.slow),
    ],
)
def test_every_view_can_be_used_by_everybody(
    window: Browser, engine: EngineProcess, size: tuple[int, int]
) -> None:
    """Names, order, contrast and sizes, in both themes; nothing is wider than the window."""
    window.size(*size)
    wrong: dict[str, list[str]] = {}
    for view in (*VIEWS, f"#/url?url={quote('http://img.example.com/a')}"):
        show(window, engine, view)
        if "url=" in view:
            window.see(".sentence")
        for theme in ("light", "dark"):
            window.theme(theme)
            if said := window.run(AUDIT):
                wrong[f"{view} {theme}"] = said
    window.keys("?")
    window.see("dialog")
    if said := window.run(AUDIT):
        wrong["shortcuts"] = said
    window.press("ESCAPE")
    window.theme("light")
    assert not wrong, json.dumps(wrong, indent=1)


@pytest.mark.slow
def test_the_audit_finds_what_is_wrong(window: Browser, engine: EngineProcess) -> None:
    show(window, engine, "#/fleet")
    window.run(
        "const made = document.createElement('button'); made.id = 'main'; made.style.padding = 0;"
        "made.style.width = '9px'; "
        "document.querySelector('main').append(made, document.createElement('table'));"
        "const pale = document.createElement('p'); pale.textContent = 'pale'; pale.style.color = '#999';"
        "document.querySelector('main').append(pale)"
    )
    said = " ".join(window.run(AUDIT))
    for what in (
        "has no name",
        "two elements have the id main",
        "too small",
        "without a caption",
        "contrast 2.",
    ):
        assert what in said, said


def test_what_has_the_focus_is_seen(window: Browser, engine: EngineProcess) -> None:
    """The first is a way past the navigation."""
    window.size(1440, 900)
    show(window, engine, "#/fleet")
    window.run("document.activeElement.blur()")
    seen = []
    for _ in range(12):
        window.press("TAB")
        seen.append(
            window.run(
                "const e = document.activeElement, s = getComputedStyle(e);"
                "return [e.textContent.slice(0, 20) || e.name, s.outlineStyle, parseFloat(s.outlineWidth)]"
            )
        )
    assert seen[0][0] == "To the content"
    assert all(style == "solid" and width >= 2 for _, style, width in seen), seen
    assert any("edge-7" in name or "parent-1" in name for name, _, _ in seen), seen


@pytest.mark.slow
def test_the_theme_follows_the_system_until_it_is_told_otherwise(
    window: Browser, engine: EngineProcess
) -> None:
    show(window, engine, "#/fleet")
    colour = "return getComputedStyle(document.body).backgroundColor"
    window.theme("light")
    light = window.run(colour)
    window.theme("dark")
    dark = window.run(colour)
    assert light != dark
    window.keys("d")  # light, whatever the system says
    wait_until(lambda: window.run(colour) == light)
    window.driver.refresh()
    window.see(".pill", "live")
    assert window.run(colour) == light
    window.run("localStorage.clear()")
    window.theme("light")


@pytest.mark.slow
def test_the_list_of_tasks_is_live(window: Browser, engine: EngineProcess) -> None:
    window.open(f"http://127.0.0.1:{engine.port}/#/tasks?host=live.example.com")
    window.see(".listfoot", "No task is as the filters say.")
    engine.submit(["http://live.example.com/first"])
    window.see(".listrow a", "live.example.com/first")


def test_exactly_what_failed_of_the_filtered_tasks_is_retried(window: Browser, engine: EngineProcess) -> None:
    """Not what did not fail, nor what a retry has mended; a task beside its retry counts once."""
    paths = [f"/bad/{number}" for number in range(3)]
    ids = [engine.submit([f"http://again.example.com{path}"], nodes=["edge-7"]) for path in paths]
    for task_id in ids:
        engine.wait_for(task_id, "failed")
    engine.submit(["http://again.example.com/good"], nodes=["edge-7"], id="good")
    engine.wait_for("good")
    MENDED.add(paths[2])
    for task_id in ids[1:]:
        assert engine.request("POST", f"/v1/engine/task/{task_id}/retry")[0] == 202
        engine.wait_for(f"{task_id}.retry-1")
    show(window, engine, "#/tasks?host=again.example.com")
    window.see(".listrow a", "again.example.com/good")
    window.click("[data-act=retry-all]")
    window.see("dialog", "2 tasks, 2 subtasks to send again; 1 left out: what failed of task")
    window.click("[data-act=confirm]", "Retry 2 tasks", times=2)
    window.see(".toast", "2 tasks retried")
    again = [f"{ids[0]}.retry-1", f"{ids[1]}.retry-2"]
    assert [engine.task(task_id)["retries"] for task_id in again] == ids[:2]
    assert engine.request("GET", f"/v1/engine/task/{ids[2]}.retry-2")[0] == 404
    show(window, engine, f"#/task/{ids[0]}")
    window.see(".facts", f"{ids[0]}.retry-1")
    window.click("[data-act=retry]")
    window.see("dialog", "is sent again to edge-7, as a new task.")
    window.see("[data-act=confirm]", "Retry 1 subtask")
    window.press("ESCAPE")
    show(window, engine, f"#/task/{ids[2]}")
    window.click("[data-act=retry]")
    window.see("dialog .problem", "which is done")
    assert not window.see("[data-act=confirm]").is_enabled()
    window.press("ESCAPE")


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1440, 3840])
def test_a_token_may_have_any_name(window: Browser, tmp_path: Path, width: int) -> None:
    """Markup, what turns the text around it, 200 characters: shown as it is, and within its place."""
    token = f'[[auth.tokens]]\nname = {json.dumps(NAME)}\nscopes = ["read", "submit", "admin"]\n'
    token += f'sha256 = "{hashlib.sha256(b"evil").hexdigest()}"\n[[site]]\nhost = "*"\n'
    long = "edge-" + "x" * 59
    window.size(width, 900)
    with (
        FakeNode(script) as node,
        EngineProcess(tmp_path, token + fake_table(node.url, name=long)) as engine,
    ):
        headers = {"Authorization": "Bearer evil"}
        for task_id, path in (("i" * 64, "/bad/" + "y" * 1500), ("paused", "/a")):
            body = {"id": task_id, "targets": [f"http://{'h' * 60}.example.com{path}"]}
            assert engine.request("POST", "/v1/engine/task", body, headers)[0] == 202
            if task_id != "paused":
                assert engine.request("POST", f"/v1/engine/nodes/{long}/pause", None, headers)[0] == 200
        window.open(f"http://127.0.0.1:{engine.port}/console/icon.svg")
        window.run("sessionStorage.setItem('purgeline-token', 'evil')")
        views = [
            *VIEWS[2:3],
            *VIEWS[5:],
            "#/fleet",
            f"#/fleet/{long}",
            f"#/task/{'i' * 64}",
            "#/task/paused",
        ]
        for view in [*views, f"#/url?url={quote(f'http://{chr(104) * 60}.example.com/a')}"]:
            window.open(f"http://127.0.0.1:{engine.port}/{view}")
            window.see(".pill", "live")
            window.see("main h1, main .card, main .tile")
            if view.startswith("#/task"):
                window.wait_for("\\u202e\\u2066evil") if width > 640 or "task/" in view else None
            seen = window.run(
                "return [document.body.textContent, document.documentElement.scrollWidth, window.pwned]"
            )
            assert "\u202e" not in seen[0], view
            assert seen[1:] == [width, None], view
        window.run("sessionStorage.clear()")
    window.size(1440, 900)
    assert window.errors() == []
