"""The operators' page in a real browser, on a real engine with real caches, where its effects are seen."""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from release.lab import caches
from release.lab.origin import Origin
from tests.fakes.callback_receiver import RULE, Receiver
from tests.rigs.browser import Browser
from tests.rigs.engine_process import EngineProcess, get_body, layer_tables, node_table
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from release.lab.caches import Cache

HOST = "img.example.com"
SCOPES = {"operator": ["read", "submit", "admin"], "reader": ["read"], "writer": ["submit"]}


def tokens(scopes: dict[str, list[str]]) -> str:
    """Return tables of tokens that are their own names."""
    return "".join(
        f"[[auth.tokens]]\nname = {json.dumps(name)}\n"
        f'sha256 = "{hashlib.sha256(name.encode()).hexdigest()}"\nscopes = {json.dumps(words)}\n'
        for name, words in scopes.items()
    )


def url(path: str) -> str:
    return f"http://{HOST}{path}"


class Fleet:
    """A parent and an edge, both Varnish, behind them an origin, and the engine."""

    def __init__(self, engine: EngineProcess, origin: Origin, edge: Cache) -> None:
        self.engine = engine
        self.origin = origin
        self.edge = edge
        self.page = f"http://127.0.0.1:{engine.port}/"

    def ask(self, method: str, path: str, body: object = None) -> dict[str, object]:
        """Ask the engine as an operator does."""
        headers = {"Authorization": "Bearer operator"}
        status, _, answer = self.engine.request(method, f"/v1/engine/{path}", body, headers)
        assert status < 300, answer
        return dict(json.loads(answer))

    def submit(self, path: str, **fields: object) -> str:
        return str(self.ask("POST", "task", {"targets": [url(path)], **fields})["task_id"])

    def state(self, task_id: str) -> str:
        return str(self.ask("GET", f"task/{task_id}")["state"])

    def stale(self, path: str) -> None:
        """Have both caches keep the old page, and the origin a new one."""
        self.publish(path, "old")
        assert self.served(path) == "old"
        self.publish(path, "new")

    def publish(self, path: str, text: str) -> None:
        fields = {"Cache-Control": "max-age=600", "ETag": f'"{text}"'}
        self.origin.set(HOST, path, text.encode(), headers=fields)

    def served(self, path: str) -> str:
        """Return what a visitor gets from the edge."""
        return get_body(self.edge, path).decode()

    def waits(self) -> int:
        nodes: list[dict[str, int]] = self.ask("GET", "nodes")["nodes"]  # type: ignore[assignment]
        return sum(node["delayed"] for node in nodes)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with (
        Origin() as origin,
        caches.start_varnish(folder / "p", name="parent-1", backend=origin.address, is_parent=True) as parent,
        caches.start_varnish(folder / "e", name="edge-7", backend=parent.address) as edge,
    ):
        tables = layer_tables("parent", "edge") + tokens(SCOPES) + '[[site]]\nhost = "*.example.com"\n'
        tables += f'[[origin]]\nhost = "*.example.com"\nurl = "{origin.url}"\n'
        tables += RULE + node_table(parent, name="parent-1", layer="parent") + node_table(edge, name="edge-7")
        with EngineProcess(folder, tables) as engine:
            yield Fleet(engine, origin, edge)
            assert "Traceback" not in engine.log()


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def browser(window: Browser, fleet: Fleet) -> Iterator[Browser]:
    """The window, without what a test before left; after the test its console must have no error."""
    window.open(f"{fleet.page}console/icon.svg")  # so that the page begins anew
    window.run("sessionStorage.clear(); localStorage.clear()")
    yield window
    said = window.errors()
    assert said == []


@pytest.fixture
def page(browser: Browser, fleet: Fleet) -> Browser:
    """The page, with an operator's token, as one that was kept."""
    browser.run("sessionStorage.setItem('purgeline-token', 'operator')")
    browser.open(fleet.page)
    browser.see(".pill", "live")
    return browser


def test_a_token_that_nobody_has_is_told_so(browser: Browser, fleet: Fleet) -> None:
    browser.sign_in(fleet.page, "nobody")
    browser.see(".login .problem", "does not know this token")
    browser.type("input[name=token]", "two words")
    browser.click("button[type=submit]")
    browser.see(".login .problem", "no spaces")


@pytest.mark.slow
def test_a_token_that_may_not_read_is_told_what_is_missing_and_not_kept(
    browser: Browser, fleet: Fleet
) -> None:
    browser.sign_in(fleet.page, "writer", is_kept=True)
    browser.see(".login .problem", "has not the scope 'read'")
    assert browser.run("return sessionStorage.length") == 0
    browser.driver.refresh()
    browser.see("input[name=token]")
    assert browser.texts(".login .problem") == [""]


@pytest.mark.slow
def test_what_is_not_known_yet_is_not_said_to_be_none(browser: Browser, fleet: Fleet) -> None:
    """Neither while the engine is away from the first, nor while it cannot tell its nodes."""
    browser.open(fleet.page)
    browser.see("input[name=token]")
    browser.run(
        "const ask = fetch; window.answer = () => Promise.reject(new TypeError('away'));"
        "window.fetch = (at, ...rest) => at.endsWith('/events') ? window.answer() : ask(at, ...rest)"
    )
    browser.type("input[name=token]", "operator")
    browser.click("button[type=submit]")
    browser.see(".verdict", "The engine cannot be reached, and nothing is known of its caches yet")
    whole: dict[str, object] = {"at": time.time(), "nodes": None, "stats": {}, "cluster": {}, "not_ready": ""}
    hello = {"token": "operator", "scopes": ["read"], "page": "1"}
    browser.run(
        "const said = (kind, value) => `event: ${kind}\\ndata: ${JSON.stringify(value)}\\n\\n`;"
        "const [hello, whole] = arguments; window.answer = async () => new Response(new ReadableStream({"
        "start: (out) => out.enqueue(new TextEncoder().encode(': kept open by a proxy\\n\\n'"
        "+ said('hello', hello) + said('whole', whole)))}))",
        hello,
        {**whole, "trouble": "nodes cannot be read at the moment"},
    )
    browser.see(".verdict", "The state of the caches is not known yet (nodes cannot be read at the moment)")
    for view in ("#/tasks", "#/cluster", "#/purge", "#/fleet"):
        browser.open(f"{fleet.page}{view}")
        browser.see("h1")
        assert "configured" not in browser.text


@pytest.mark.slow
def test_a_token_is_kept_only_where_that_was_asked_for(browser: Browser, fleet: Fleet) -> None:
    stored = "return JSON.stringify([sessionStorage, localStorage, document.cookie])"
    browser.sign_in(fleet.page, "operator")
    browser.see(".pill", "live")
    assert "operator" not in browser.run(stored)
    browser.driver.refresh()
    browser.sign_in(fleet.page, "operator", is_kept=True)
    browser.see(".pill", "live")
    browser.driver.refresh()
    browser.see(".pill", "live")
    browser.click("button", "Sign out")
    browser.see("input[name=token]")
    assert "operator" not in browser.run(stored)


def test_who_signs_in_again_while_the_page_reconnects_reads_one_stream(
    browser: Browser, fleet: Fleet
) -> None:
    browser.open(fleet.page)
    browser.see("input[name=token]")
    browser.run(
        "const [ask, wait] = [fetch, setTimeout]; window.asleep = []; window.streams = -1;"
        "window.fetch = (at, ...rest) => at === '/v1/engine/events' && !window.streams++ "
        "? Promise.reject(new TypeError('away')) : ask(at, ...rest);"
        "window.setTimeout = (call, ms) => ms > 300 && ms < 700 ? window.asleep.push(call) : wait(call, ms);"
        "window.streams = 0"
    )
    for _ in range(2):
        browser.type("input[name=token]", "operator")
        browser.click("button[type=submit]")
        if browser.run("return window.streams") == 1:
            wait_until(lambda: browser.run("return window.asleep.length") == 1)
            browser.click("button", "Sign out")
    browser.see(".pill", "live")
    browser.run("window.asleep.forEach((wake) => wake())")
    assert browser.run("return window.streams") == 2


@pytest.mark.slow
def test_a_kept_token_that_the_engine_forgot_is_asked_for_again(browser: Browser, fleet: Fleet) -> None:
    """And not kept; the view stays."""
    browser.open(f"{fleet.page}#/cluster")
    browser.see("input[name=token]")  # it has been told that one is needed
    browser.run("sessionStorage.setItem('purgeline-token', 'gone-since')")
    browser.driver.refresh()
    browser.see(".login .problem", "does not know this token")
    assert browser.run("return sessionStorage.length") == 0
    browser.type("input[name=token]", "operator")
    browser.click("button[type=submit]")
    browser.see("h2", "This engine")


@pytest.mark.slow
def test_the_reason_stays_when_more_requests_are_refused_with_the_same_token(page: Browser) -> None:
    """Each view asks for itself; what is typed meanwhile stays, too."""
    page.run(
        "window.held = []; window.fetch = () => new Promise((done) => window.held.push("
        "() => done(new Response('{}', {status: 401}))))"
    )
    for count, view in ((1, "#/tasks"), (2, f"#/url?url={quote(url('/a'))}")):
        page.run("location.hash = arguments[0]", view)
        wait_until(lambda count=count: page.run("return window.held.length") >= count)  # type: ignore[misc]
    page.run("window.held[0]()")
    page.see(".login .problem", "does not know this token")
    page.type("input[name=token]", "operator")
    page.run(
        "window.held.slice(1).forEach((answer) => answer()); return new Promise((r) => setTimeout(r, 50))"
    )
    assert page.texts(".login .problem") == ["The engine does not know this token (any more)."]
    assert page.see("input[name=token]").get_attribute("value") == "operator"


def test_a_reader_sees_everything_and_can_do_nothing(browser: Browser, fleet: Fleet) -> None:
    task_id = fleet.submit("/reader")
    browser.sign_in(f"{fleet.page}#/fleet/edge-7", "reader")
    browser.see(".side h2", "edge-7")
    buttons = browser.all(".side [data-act]")
    assert len(buttons) == 3
    assert not any(button.is_enabled() for button in buttons)
    browser.open(f"{fleet.page}#/purge")
    browser.see(".problem", "has not the scope submit")
    assert not browser.see("button[type=submit]").is_enabled()
    browser.open(f"{fleet.page}#/tasks")
    browser.see(".listrow a", "/reader")
    assert not browser.see("[data-act=cancel-all]").is_enabled()
    browser.open(f"{fleet.page}#/task/{task_id}")
    browser.see("h1", task_id)


def test_the_verdict_says_that_all_is_well(page: Browser) -> None:
    page.see(".verdict.s-ready", "All 2 caches are well")
    assert page.texts(".layers h2") == ["parent 1", "edge 1"]
    assert [text.split("\n")[0] for text in page.texts(".tile")] == ["parent-1", "edge-7"]


def test_a_purge_is_seen_before_it_is_made_and_made_once(page: Browser, fleet: Fleet) -> None:
    """However often its button is clicked; the task is watched to its end, and the cache has dropped it."""
    fleet.stale("/twice")
    page.click("nav a", "Purge")
    page.type("textarea[name=targets]", url("/twice"))
    page.click("button[type=submit]", "Preview")
    page.see("[data-preview]", "1 target × 2 nodes = 2 subtasks")  # noqa: RUF001 - as the page has it
    page.see("[data-preview]", "at most 1 fetch")
    assert fleet.served("/twice") == "old"
    page.click("[data-act=submit]", times=3)
    page.see(".taskhead .state", "done")
    assert fleet.served("/twice") == "new"
    sums = dict(zip(page.texts("[data-sum] span"), page.texts("[data-sum] b"), strict=True))
    assert sums == {
        "acked": "2",
        "failed": "0",
        "delayed": "0",
        "cancelled": "0",
        "under way": "0",
        "total": "2",
    }
    assert len(page.all("svg.fall [data-row]")) == 2
    tasks: list[object] = fleet.ask("GET", f"tasks?target={quote(url('/twice'))}")["tasks"]  # type: ignore[assignment]
    assert len(tasks) == 1


@pytest.mark.slow
def test_the_attempts_of_a_callback_are_watched_until_it_is_delivered(page: Browser, fleet: Fleet) -> None:
    """Of a task that is over: its receiver fails twice, and takes it then."""
    receiver = Receiver()
    receiver.status = lambda count: 500 if count <= 2 else 204
    try:
        task_id = fleet.submit("/told", callback=f"{receiver.url}/private?key=hidden")
        page.open(f"{fleet.page}#/task/{task_id}")
        page.see(".card", "Callback")
        page.see(".facts", "answered 500")
        page.see(".facts", "Next")
        page.see(".taskhead .state", "done")
        page.see(".facts .state[data-state=delivered]")
        page.see(".facts", "answered 204")
        assert dict(zip(page.texts(".facts dt"), page.texts(".facts dd"), strict=True))["Attempts"] == "3"
        assert "hidden" not in page.text
    finally:
        receiver.stop()


@pytest.mark.slow
def test_comments_in_a_list_of_targets_are_left_out_as_by_the_command_line(
    page: Browser, fleet: Fleet
) -> None:
    page.open(f"{fleet.page}#/purge")
    page.type("textarea[name=targets]", f"# the campaign\n{url('/one')}\n  #{url('/two')}\n\n{url('/3#x')}\n")
    page.see("#targets-hint", "2 targets")
    page.click("button[type=submit]", "Preview")
    page.see("[data-act=submit]", "Purge 2 targets on 2 nodes")
    shown = page.texts("[data-preview] .facts")[0]
    assert url("/one") in shown
    assert "/two" not in shown


@pytest.mark.slow
def test_a_purge_that_is_refused_says_why(page: Browser, fleet: Fleet) -> None:
    page.open(f"{fleet.page}#/purge")
    page.type("textarea[name=targets]", "http://elsewhere.example.org/a")
    page.click("button[type=submit]", "Preview")
    page.see(".problem", "elsewhere.example.org")
    assert not page.all("[data-act=submit]")


@pytest.mark.slow
def test_a_changed_form_has_to_be_looked_at_again(page: Browser, fleet: Fleet) -> None:
    page.open(f"{fleet.page}#/purge?url={quote(url('/changed'))}")
    page.click("button[type=submit]", "Preview")
    page.see("[data-act=submit]", "Purge 1 target on 2 nodes")
    page.click("input[name=node][value=edge-7]")
    page.wait_for("look again before you purge")
    page.click("button[type=submit]", "Preview")
    page.see("[data-act=submit]", "Purge 1 target on 1 node")


def test_a_node_is_paused_and_resumed(page: Browser, fleet: Fleet) -> None:
    """What is purged meanwhile waits, and is delivered after."""
    fleet.stale("/paused")
    page.click(".tile[data-node=edge-7]")
    page.click("[data-act=pause]")
    page.see("dialog", "Pause edge-7?")
    page.click("[data-act=confirm]", times=2)
    try:
        page.see(".verdict.s-paused", "edge-7 is paused since")
        task_id = fleet.submit("/paused")
        page.see(".tile[data-node=edge-7]", "1 waits")
        assert fleet.served("/paused") == "old"
        page.click("[data-act=resume]")
        page.see("dialog", "1 purge that waits is delivered")
        page.click("[data-act=confirm]")
        wait_until(lambda: fleet.state(task_id) == "done")
    finally:
        fleet.ask("POST", "nodes/edge-7/resume")
    assert fleet.served("/paused") == "new"
    page.see(".verdict", "All 2 caches are well")
    lines = [line for line in fleet.engine.log().splitlines() if '"audit":"admin"' in line]
    for verb in ("pause", "resume"):
        assert any(f"edge-7/{verb}" in line and '"by":"operator"' in line for line in lines)


def test_a_node_that_dies_and_comes_back_is_watched(page: Browser, fleet: Fleet) -> None:
    fleet.edge.kill()
    try:
        task_id = fleet.submit("/died", due_s=1)
        page.see(".verdict.s-down", "edge-7 is down since")
        page.see(".verdict", "1 purge waits")
        page.open(f"{fleet.page}#/task/{task_id}")
        page.see(".taskhead .state", "partial")
        page.see("table", "unreachable")
    finally:
        fleet.edge.start()
    page.see(".taskhead .state", "done")
    page.see(".verdict", "All 2 caches are well")


def test_a_stale_page_is_found_and_mended(page: Browser, fleet: Fleet) -> None:
    """The incident of docs/console.md: why, purge there, look again."""
    began = time.monotonic()
    fleet.stale("/incident")
    task_id = fleet.submit("/incident", nodes=["parent-1"])  # and somebody forgot the edge
    wait_until(lambda: fleet.state(task_id) == "done")
    page.keys("gu")
    page.type("input[name=url]", url("/incident"))
    page.click("button", "Why?")
    page.see(".conclusion", "edge-7 still serves")
    assert page.texts("tr.origin .digest") != page.texts("tbody tr:nth-child(3) .digest")
    page.click("[data-act=purge]", "Purge it on edge-7 …")
    page.click("button[type=submit]", "Preview")
    page.click("[data-act=submit]")
    page.see(".taskhead .state", "done")
    assert fleet.served("/incident") == "new"
    page.click("a.button", "Why is it stale?")
    page.see("tbody tr:nth-child(3)", "fresh")
    page.see("table", "operator")
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_a_form_that_is_edited_while_its_preview_is_made_is_looked_at_again(
    page: Browser, fleet: Fleet
) -> None:
    """What is sent is what the preview names."""
    page.open(f"{fleet.page}#/purge?url={quote(url('/edited'))}")
    page.run(
        "const ask = fetch; window.fetch = (...all) => new Promise((go) => { window.answer = go })"
        ".then(() => { window.fetch = ask; return ask(...all) })"
    )
    page.click("button[type=submit]", "Preview")
    page.click("input[name=node][value=edge-7]")
    page.run("window.answer()")
    page.wait_for("look again before you purge")
    assert not page.all("[data-act=submit]")
    page.click("button[type=submit]", "Preview")
    page.see("[data-preview]", url("/edited"))
    assert "edge-7" in page.texts("[data-preview] .facts")[0]
    assert "parent-1" not in page.texts("[data-preview] .facts")[0]


@pytest.mark.slow
def test_a_node_is_rewound(page: Browser, fleet: Fleet) -> None:
    """What was purged while it was restored from a snapshot, say, is purged on it once more."""
    fleet.stale("/rewound")
    task_id = fleet.submit("/rewound")
    wait_until(lambda: fleet.state(task_id) == "done")
    fleet.publish("/rewound", "snapshot")
    assert fleet.served("/rewound") == "snapshot"
    fleet.publish("/rewound", "new")
    page.open(f"{fleet.page}#/fleet/edge-7")
    page.click("[data-act=rewind]")
    page.see("dialog input[name=since]")
    page.type("dialog input[name=host]", HOST)
    page.click("[data-act=confirm]")
    page.see(".toast", "go to edge-7 once more")
    parent = fleet.ask("POST", "task", {"targets": [url("/rewound")], "nodes": ["parent-1"]})
    wait_until(lambda: fleet.state(str(parent["task_id"])) == "done")
    wait_until(lambda: fleet.served("/rewound") == "new", what="the page being fresh")


@pytest.mark.slow
def test_a_node_is_checked(page: Browser, fleet: Fleet) -> None:
    page.open(f"{fleet.page}#/fleet/edge-7")
    page.click("[data-act=check]")
    page.see("dialog .state", "proven")
    page.press("ESCAPE")
    assert not page.all("dialog")
    page.press("ESCAPE")
    wait_until(lambda: page.place == "#/fleet")


@pytest.mark.slow
def test_exactly_the_filtered_tasks_are_cancelled(page: Browser, fleet: Fleet) -> None:
    """Their number is told before; those that the filters leave out go on."""
    fleet.ask("POST", "nodes/edge-7/pause")
    try:
        wanted = [fleet.submit(f"/bulk-{number}") for number in range(3)]
        other = str(fleet.ask("POST", "task", {"targets": ["http://www.example.com/bulk"]})["task_id"])
        page.open(f"{fleet.page}#/tasks")
        page.see(".listrow a", "/bulk-2")
        page.type("input[name=host]", HOST)
        page.choose("select[name=state]", "partial")
        wait_until(lambda: "host=" in page.place and "state=partial" in page.place)
        wait_until(lambda: len(page.all(".listrow a")) == 3)
        page.click("[data-act=cancel-all]")
        page.see("dialog", "3 tasks, 3 subtasks without an answer.")
        page.click("[data-act=confirm]", "Cancel 3 tasks", times=2)
        page.see(".toast", "3 tasks cancelled")
        assert [fleet.state(one) for one in (*wanted, other)] == ["cancelled"] * 3 + ["partial"]
    finally:
        fleet.ask("POST", "nodes/edge-7/resume")
    wait_until(lambda: fleet.state(other) == "done")
    fleet.stale("/bulk-0")
    assert fleet.served("/bulk-0") == "old"


@pytest.mark.slow
def test_one_task_is_cancelled(page: Browser, fleet: Fleet) -> None:
    """A confirmation names its task, and goes with its view; what fails after that is told."""
    fleet.ask("POST", "nodes/edge-7/pause")
    try:
        other, task_id = fleet.submit("/other"), fleet.submit("/cancelled")
        for one in (other, task_id):
            page.open(f"{fleet.page}#/task/{one}")
            page.see("h1", one)
        page.click("[data-act=cancel]")
        page.see("dialog h2", f"Cancel {task_id}?")
        page.driver.back()
        page.see("h1", other)
        assert not page.all("dialog")
        page.driver.forward()
        page.see("h1", task_id)
        page.run(
            "const ask = fetch; window.fetch = (at, init) => init.method !== 'DELETE' ? ask(at, init)"
            ": new Promise((_, no) => { window.no = () => { window.fetch = ask; no(new TypeError('')) } })"
        )
        page.click("[data-act=cancel]")
        page.click("dialog [data-act=confirm]")
        page.click("dialog button", "Back")
        page.run("window.no()")
        page.see(".toast", "the engine cannot be reached")
        page.click("[data-act=cancel]")
        page.click("dialog [data-act=confirm]")
        page.see(".taskhead .state", "cancelled")
        assert fleet.state(other) == "partial"
    finally:
        fleet.ask("POST", "nodes/edge-7/resume")
    assert fleet.state(task_id) == "cancelled"


@pytest.mark.slow
def test_a_task_that_is_watched_keeps_what_its_viewer_has_chosen(page: Browser, fleet: Fleet) -> None:
    """The focus, a selection, what is open: only what is another now is drawn."""
    chosen = "return [document.activeElement.tagName, getSelection().toString(), window.summary.isConnected]"
    fleet.ask("POST", "nodes/edge-7/pause")
    try:
        task_id = fleet.submit("/watched")
        page.open(f"{fleet.page}#/tasks")
        page.see(".listrow a", "/watched")
        page.run("document.querySelector('.listrow a').focus()")
        page.press("ENTER")
        page.see("h1", task_id)
        assert page.run("return document.activeElement.tagName") == "MAIN"
        page.click("summary", "Numbers of 2 nodes")
        page.run(
            "window.summary = document.querySelector('summary'); window.summary.focus();"
            "getSelection().selectAllChildren(document.querySelector('h1'));"
            "const ask = fetch; window.looks = 0; window.fetch = (at, ...rest) => {"
            "window.looks += at.includes('/task/'); return ask(at, ...rest) }"
        )
        wait_until(lambda: page.run("return window.looks") > 1)
        assert page.run(chosen) == ["SUMMARY", task_id, True]
    finally:
        fleet.ask("POST", "nodes/edge-7/resume")
    page.see(".taskhead .state", "done")
    assert page.run(chosen) == ["SUMMARY", task_id, True]
    page.see("details[open] table", "edge-7")


@pytest.mark.slow
def test_a_receipt_is_shown(page: Browser, fleet: Fleet) -> None:
    task_id = fleet.submit("/receipt")
    page.open(f"{fleet.page}#/task/{task_id}")
    page.click("[data-act=receipt]")
    page.see("dialog pre", task_id)


@pytest.mark.slow
def test_the_address_has_the_view_and_the_filters_and_the_back_button_works(
    page: Browser, fleet: Fleet
) -> None:
    task_id = fleet.submit("/back")
    page.click("nav a", "Tasks")
    page.see(".listrow a", "/back")
    page.choose("select[name=state]", "done")
    wait_until(lambda: page.place == "#/tasks?state=done")
    page.click(".listrow a", "/back")
    page.see("h1", task_id)
    page.driver.back()
    page.see(".listrow a", "/back")
    assert page.place == "#/tasks?state=done"
    assert page.run("return document.querySelector('select[name=state]').value") == "done"
    page.driver.back()
    wait_until(lambda: page.run("return document.querySelector('select[name=state]').value") == "")
    page.driver.back()
    page.see(".tile")
    page.driver.forward()
    page.see(".listrow a", "/back")
    page.open(f"{fleet.page}#/url?url={url('/back?size=2')}")
    assert page.see("input[name=url]").get_attribute("value") == url("/back?size=2")
    page.open(f"{fleet.page}#/tasks?since=30d")
    page.see(".listrow a", "/back")


@pytest.mark.slow
def test_each_row_of_the_list_is_a_link_and_stays_a_row(page: Browser, fleet: Fleet) -> None:
    """To keyboard, mouse and screen reader; rows are in the order in which they are seen, also new ones."""
    for number in range(3):
        fleet.submit(f"/row-{number}")
    page.open(f"{fleet.page}#/tasks?host={HOST}")
    page.see(".listrow a", "/row-2")
    fleet.submit("/row-3")
    page.see(".listrow a", "/row-3")
    links = page.all(".pad .listrow a")
    assert [link.text.rpartition("/")[2] for link in links[:4]] == ["row-3", "row-2", "row-1", "row-0"]
    assert (links[0].aria_role, links[0].accessible_name) == ("link", f"{HOST}/row-3")
    roles = [
        element.aria_role for element in page.all(".pad .listrow:first-child, .pad .listrow:first-child > *")
    ]
    assert roles == ["row", "cell", "rowheader", *["cell"] * 5]
    page.run("document.querySelector('.filters [type=submit]').focus()")
    page.press("TAB")
    assert page.run("return document.activeElement.textContent") == f"{HOST}/row-3"
    ring = "return getComputedStyle(document.activeElement.closest('.listrow')).outlineStyle"
    assert page.run(ring) == "solid"
    page.press("ARROW_DOWN")
    assert page.run("return document.activeElement.textContent") == f"{HOST}/row-2"
    page.press("ENTER")
    page.see(".facts", "Handed in by")
    page.see("li", "/row-2")
    page.driver.back()
    for cell in (".c-took", ".c-at time", ".state"):
        page.see(".listrow a", "/row-1")
        page.click_at(f".pad .listrow:nth-child(3) {cell}")
        page.see("li", "/row-1")
        page.driver.back()
    page.see(".listrow a", "/row-1")


@pytest.mark.slow
def test_shortcuts_of_one_key_can_be_switched_off_and_stay_off(page: Browser) -> None:
    """Keys that act on what has the focus stay."""
    for is_on in (False, True):
        page.click("button", "?")
        page.click("dialog input[name=keys]")
        page.press("ESCAPE")
        page.driver.refresh()
        page.see(".pill", "live")
        page.keys("gt")
        page.keys("d")
        page.keys("?")
        assert bool(page.all("dialog")) == is_on
        assert (page.place == "#/tasks") == is_on
        assert (page.run("return document.documentElement.dataset.theme") != "auto") == is_on
        if is_on:
            page.press("ESCAPE")
        else:
            page.run("document.querySelector('.tile[data-node=parent-1]').focus()")
            page.press("ARROW_DOWN")
            assert page.run("return document.activeElement.dataset.node") == "edge-7"


def test_the_keyboard_is_enough(page: Browser) -> None:
    page.keys("?")
    page.see("dialog", "these shortcuts")
    page.press("ESCAPE")
    page.keys("gt")
    page.see("nav a[aria-current]", "Tasks")
    page.keys("gf")
    page.see(".tile")
    page.run("document.querySelector('.tile[data-node=parent-1]').focus()")
    page.press("ARROW_DOWN")
    assert page.run("return document.activeElement.dataset.node") == "edge-7"
    page.press("ENTER")
    page.see(".side h2", "edge-7")
    page.press("ESCAPE")
    wait_until(lambda: page.place == "#/fleet")
    page.keys("/")
    assert page.run("return document.activeElement.name") == "q"
    page.keys("parent")
    wait_until(lambda: len(page.all(".tile")) == 1)
    page.click(".tile[data-node=parent-1]")
    page.see(".side h2", "parent-1")
    assert page.place == "#/fleet/parent-1?q=parent"
    assert len(page.all(".tile")) == 1


@pytest.mark.slow
def test_an_engine_that_is_restarted_is_live_again_by_itself(page: Browser, fleet: Fleet) -> None:
    page.run(
        "const ask = fetch; const other = new TransformStream({transform: (bytes, out) => out.enqueue("
        "new TextEncoder().encode(new TextDecoder().decode(bytes).replace('\"page\":\"', '$&new')))});"
        "window.fetch = async (...all) => { const got = await ask(...all);"
        "return all[0].endsWith('/events') && got.ok ? new Response(got.body.pipeThrough(other)) : got }"
    )
    fleet.engine.stop()
    page.see(".pill", "not live")
    page.see(".away", "Not live: this is what was at")
    assert ": All 2 caches are well" in page.see(".verdict.s-accepted").text
    assert page.driver.title.startswith("Not live")
    assert page.texts(".tile")
    fleet.engine.start()
    page.see(".pill", "live")
    wait_until(lambda: page.texts(".pill") == ["live"])
    page.see(".verdict.s-ready", "All 2 caches are well")
    assert page.driver.title.startswith("Fleet")
    page.see(".away button", "Reload")  # the engine has other modules by now


@pytest.mark.slow
def test_without_scripts_the_page_says_so(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> None:
    with Browser(tmp_path_factory.mktemp("scriptless"), has_scripts=False) as browser:
        browser.open(fleet.page)
        browser.wait_for("This page needs JavaScript, and yours is off.")
