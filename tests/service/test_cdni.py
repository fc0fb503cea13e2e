"""The CDNI door (RFC 8007): its examples, and what clients of it are refused. The cache is scripted."""

from __future__ import annotations

import http.client
import json
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.fakes import cdni as rfc
from tests.fakes.node import FakeNode, Held
from tests.rigs.cdni import COMMAND, PID, UPSTREAM, CdniEngine, Upstream, client_table, site_tables
from tests.rigs.engine_process import fake_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STATUS = "application/cdni; ptype=ci-trigger-status"
COLLECTION = "application/cdni; ptype=ci-trigger-collection"
URL = "https://www.example.com/a"


def without_times(status: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in status.items() if not name.endswith("time")}


def test_the_examples_of_the_rfc(tmp_path: Path) -> None:
    """Its requests byte for byte; what they are answered means the same, but for ids, times and tags."""
    held = Held()
    with (
        FakeNode(held) as node,
        CdniEngine(
            tmp_path,
            fake_table(node.url, name="edge-1", key_mode="ban") + site_tables("*.example.com"),
            door={"url": "https://dcdn.example.com"},
        ) as engine,
    ):
        upstream = engine.upstream()
        paths = []
        for sent, expected in (
            (rfc.PREPOSITION, rfc.PREPOSITION_STATUS),
            (rfc.INVALIDATE, rfc.INVALIDATE_STATUS),
        ):
            answer = upstream.send(sent)
            assert (answer.status, answer.headers["content-type"]) == (201, STATUS), answer
            assert without_times(answer.json) == without_times(expected)
            assert answer.json["ctime"] <= answer.json["mtime"] <= answer.json["etime"]
            url = answer.headers["location"]
            assert url.startswith("https://dcdn.example.com/triggers/")
            paths.append(url.removeprefix("https://dcdn.example.com"))
        urls = [f"https://dcdn.example.com{path}" for path in paths]

        answer = upstream.send(rfc.get("/triggers"))
        assert (answer.status, answer.headers["content-type"]) == (200, COLLECTION)
        assert answer.json == {**rfc.ALL, "triggers": urls}
        assert {"cache-control", "expires", "etag"} <= answer.headers.keys()
        upstream.wait_for(paths[0], "active")
        upstream.wait_for(paths[1], "active")
        going = upstream.send(rfc.get("/triggers/active"))
        assert going.json["triggers"] == urls
        assert upstream.send(rfc.get("/triggers/complete")).json == {
            "coll-all": "/triggers",
            "staleresourcetime": 86400,
            "triggers": [],
        }
        tag = ""
        for path, before in (("/triggers/active", going), (paths[0], upstream.send(rfc.get(paths[0])))):
            tag = before.headers["etag"]
            same = upstream.send(rfc.get(path, f"If-None-Match: {tag}"))
            assert (same.status, same.body, same.headers["etag"]) == (304, b"", tag)
            assert same.headers["content-type"] == before.headers["content-type"]

        held.released.set()
        assert [upstream.wait_for(path)["status"] for path in paths] == ["complete", "complete"]
        assert upstream.send(rfc.get("/triggers/active", f"If-None-Match: {tag}")).json["triggers"] == []
        assert upstream.send(rfc.get("/triggers/complete")).json["triggers"] == urls
        gone = upstream.send(rfc.get(paths[0], method="DELETE"))
        assert (gone.status, gone.body) == (204, b"")
        assert upstream.send(rfc.get("/triggers/complete")).json["triggers"] == urls[1:]
        assert upstream.send(rfc.get(paths[0])).status == 404

        assert upstream.send(rfc.CANCEL).status == 404  # the id is the RFC's
        body = rfc.CANCEL.partition(b"\r\n\r\n")[2].replace(b"/triggers/0", paths[1].encode())
        canceled = upstream.ask("POST", "/triggers", body)
        assert (canceled.status, canceled.body) == (200, b"")
        assert upstream.status(paths[1])["status"] == "complete"


class Here(NamedTuple):
    """An engine with a door, in front of a scripted node."""

    node: FakeNode
    held: Held
    engine: CdniEngine
    ours: Upstream
    theirs: Upstream


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    folder = tmp_path_factory.mktemp("cdni")
    held = Held()
    held.released.set()
    tables = (
        client_table("ours", "*.example.com")
        + client_table("theirs", "*.example.org")
        + client_table("slow", rate_per_s=0.001, burst_count=2)
        + client_table("reader", scopes=["read"])
        + site_tables("*.example.com", "*.example.org")
    )
    with (
        FakeNode(held) as node,
        CdniEngine(
            folder, fake_table(node.url, name="edge-1", key_mode="ban") + tables, header_timeout_s=1
        ) as engine,
    ):
        yield Here(node, held, engine, engine.upstream("ours"), engine.upstream("theirs"))


def test_one_trigger_is_as_many_tasks_as_it_takes(here: Here) -> None:
    """URLs, patterns and collections of one command; its status is theirs together."""
    before = time.time()
    path = here.ours.create(
        "purge",
        content_urls=[URL, "https://www.example.com/b"],
        content_patterns=[
            {"pattern": "https://www.example.com/c/*", "case-sensitive": True},
            {"pattern": "https://www.example.com/d/*"},
            {"pattern": "https://img.example.com/*"},
        ],
        content_ccid=["collection-1"],
    )
    assert here.ours.wait_for(path)["status"] == "complete"
    page = here.engine.request("GET", "/v1/engine/tasks", headers={"Authorization": "Bearer ours"})[2]
    tasks = [task for task in json.loads(page)["tasks"] if task["created_at"] >= before]
    assert {task["kind"]: task["targets"] for task in tasks} == {
        "url": ["https://www.example.com/a", "https://www.example.com/b"],
        "prefix": ["http://www.example.com/c/"],
        "regex": ["http://www.example.com/(?i:d/)"],
        "host": ["img.example.com"],
        "key": ["*.example.com/collection-1"],
    }
    assert {task["by"]["door"] for task in tasks} == {"cdni"}


def test_what_others_asked_for_is_not_there(here: Here) -> None:
    path = here.ours.create("purge", content_urls=[URL])
    here.ours.wait_for(path)
    assert here.theirs.ask("GET", path).status == 404
    assert here.theirs.ask("DELETE", path).status == 404
    assert here.theirs.cancel(path).status == 404
    assert here.theirs.listed() == []
    assert path in here.ours.listed("complete")


@pytest.mark.parametrize(
    ("url", "status"), [("https://www.example.org/a", 403), ("https://newsite.example.net/index.html", 201)]
)
def test_hosts_of_others_are_refused_and_hosts_of_nobody_have_no_metadata(
    url: str, status: int, here: Here
) -> None:
    answer = here.ours.trigger("preposition", content_urls=[url])
    assert answer.status == status, answer
    if status == 201:
        [error] = answer.json["errors"]
        assert (answer.json["status"], error["error"], error["content.urls"]) == ("failed", "emeta", [url])
        assert error["description"].startswith("newsite.example.net")
    else:
        assert "www.example.org" in answer.detail


def test_a_part_that_cannot_be_done_fails_the_trigger_and_no_other_part(here: Here) -> None:
    wild = {"pattern": "https://*.example.com/x"}
    path = here.ours.create(
        "purge", content_urls=[URL, "https://gone.example.net/a"], content_patterns=[wild]
    )
    status = here.ours.wait_for(path)
    assert status["status"] == "failed"
    errors = {error["error"]: error for error in status["errors"]}
    assert set(errors) == {"emeta", "ereject"}
    assert errors["emeta"]["content.urls"] == ["https://gone.example.net/a"]
    assert errors["ereject"]["content.patterns"] == [wild]
    assert "/a" in [request.path for request in here.node.requests]
    assert path in here.ours.listed("failed")


def test_an_unknown_type_is_kept_as_failed(here: Here) -> None:
    answer = here.ours.trigger("explode", content_urls=[URL], x_other={"kept": [1]})
    assert answer.status == 201
    [error] = answer.json["errors"]
    assert (answer.json["status"], error["error"]) == ("failed", "eunsupported")
    assert answer.json["trigger"]["x.other"] == {"kept": [1]}


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "not JSON"),
        (b'{"trigger":' + b"[" * 5000, 400, "not JSON"),
        (b"[]", 400, "takes an object"),
        ({"trigger": {"type": "purge", "content.urls": [URL]}}, 400, "cdn-path"),
        ({"trigger": {"type": "purge", "content.urls": [URL]}, "cdn-path": []}, 400, "cdn-path"),
        ({"trigger": {"type": "purge", "content.urls": [URL]}, "cdn-path": ["x"]}, 400, "cdn-path[0]"),
        ({"trigger": {"type": "purge", "content.urls": [URL]}, "cdn-path": [UPSTREAM, PID]}, 403, "loop"),
        ({"cdn-path": [UPSTREAM]}, 400, "exactly one"),
        ({"cdn-path": [UPSTREAM], "trigger": {}, "cancel": ["x"]}, 400, "exactly one"),
        ({"cdn-path": [UPSTREAM], "cancel": []}, 400, "cancel"),
        ({"cdn-path": [UPSTREAM], "cancel": ["http://x/y"]}, 404, "cancel[0]"),
        ({"cdn-path": [UPSTREAM], "trigger": {"type": "purge"}}, 400, "not empty"),
        (
            {
                "cdn-path": [UPSTREAM],
                "trigger": {"type": "purge", "content.urls": [URL], "content.ccid": ["two words"]},
            },
            400,
            "content.ccid[0]",
        ),
        ({"cdn-path": [UPSTREAM], "trigger": {"type": "purge", "content.urls": []}}, 400, "not empty"),
        ({"cdn-path": [UPSTREAM], "trigger": {"type": "purge", "content.urls": URL}}, 400, "content.urls"),
        (
            {"cdn-path": [UPSTREAM], "trigger": {"type": "purge", "content.urls": ["/a"]}},
            400,
            "content.urls[0]",
        ),
        (
            {
                "cdn-path": [UPSTREAM],
                "trigger": {"type": "preposition", "content.patterns": [{"pattern": f"{URL}/*"}]},
            },
            400,
            "content.patterns",
        ),
        (
            {
                "cdn-path": [UPSTREAM],
                "trigger": {"type": "purge", "content.patterns": [{"pattern": f"{URL}/$a"}]},
            },
            400,
            "'$'",
        ),
        (
            {"cdn-path": [UPSTREAM], "trigger": {"type": "purge", "content.urls": [URL] * 10_001}},
            413,
            "10,000",
        ),
    ],
)
def test_a_malformed_command_is_refused_and_nothing_of_it_is_kept(
    body: object, status: int, said: str, here: Here
) -> None:
    before = here.ours.listed()
    answer = here.ours.ask("POST", "/triggers", body)
    assert (answer.status, said in answer.detail) == (status, True), answer
    assert here.ours.listed() == before


@pytest.mark.parametrize(
    ("method", "path", "lines", "status"),
    [
        ("POST", "/triggers", ["Content-Type: application/json"], 415),
        ("POST", "/triggers", ["Content-Type: application/cdni; ptype=ci-trigger-status"], 415),
        ("POST", "/triggers", ["Content-Type: application/cdni; ptype=ci-trigger-command.v2"], 415),
        ("POST", "/triggers", ["Accept: application/json"], 406),
        ("POST", "/triggers", ["Accept: application/cdni; ptype=ci-trigger-collection"], 406),
        ("POST", "/triggers", ["Accept: application/cdni;q=0, */*"], 406),
        ("POST", "/triggers", ['If-Match: "other"'], 412),
        ("GET", "/triggers", ["Accept: application/cdni; ptype=ci-trigger-status"], 406),
        ("PUT", "/triggers", [], 405),
        ("DELETE", "/triggers", [], 405),
        ("POST", "/triggers/pending", [], 405),
        ("GET", "/triggers/0", [], 404),
        ("GET", "/v1/engine/tasks", [], 404),
        ("POST", "/v1/engine/task", [], 404),
        ("GET", "/triggers", ["Authorization: Bearer wrong"], 401),
    ],
)
def test_requests_that_the_door_has_no_answer_to(
    method: str, path: str, lines: list[str], status: int, here: Here
) -> None:
    before = here.ours.listed()
    body = {"trigger": {"type": "purge", "content.urls": [URL]}, "cdn-path": [UPSTREAM]}
    client = Upstream(here.engine.door_port) if status == 401 else here.ours
    answer = client.ask(method, path, body if method in {"POST", "PUT"} else None, *lines)
    assert answer.status == status, answer
    assert answer.detail
    assert here.ours.listed() == before
    if status == 405:
        assert method not in answer.headers["allow"]


def test_a_trigger_cannot_be_changed(here: Here) -> None:
    path = here.ours.create("purge", content_urls=[URL])
    for method in ("PUT", "POST", "PATCH"):
        answer = here.ours.ask(method, path, {})
        assert answer.status == 405, answer
    connection = http.client.HTTPConnection("127.0.0.1", here.engine.door_port, timeout=20)
    connection.request("HEAD", path, headers={"Authorization": "Bearer ours"})
    head = connection.getresponse()
    assert (head.status, head.read(), head.headers["Content-Type"]) == (200, b"", STATUS)
    connection.close()


def test_tags_hold_what_is_deleted(here: Here) -> None:
    path = here.ours.create("purge", content_urls=[URL])
    here.ours.wait_for(path)
    assert here.ours.ask("DELETE", path, None, 'If-Match: "other"').status == 412
    tag = here.ours.ask("GET", path).headers["etag"]
    assert here.ours.ask("GET", path, None, 'If-Match: "other"').status == 412
    assert here.ours.ask("DELETE", path, None, f"If-Match: {tag}").status == 204


def test_scopes_and_rates_hold(here: Here) -> None:
    """A trigger of three kinds of targets is three tasks of the rate."""
    reader = here.engine.upstream("reader")
    assert reader.trigger("purge", content_urls=[URL]).status == 403
    assert reader.listed() == []
    slow = here.engine.upstream("slow")
    pattern = {"pattern": "https://www.example.com/c/*", "case-sensitive": True}
    assert slow.trigger("purge", content_urls=[URL], content_patterns=[pattern]).status == 201
    refused = slow.trigger("purge", content_urls=[URL])
    assert (refused.status, int(refused.headers["retry-after"]) > 0) == (429, True)
    assert len(slow.listed()) == 1


def test_refusals_are_audited_as_of_this_door(here: Here) -> None:
    """With who it was, and what was asked for."""
    assert here.ours.trigger("purge", content_urls=["https://www.example.org/a"]).status == 403
    lines = [json.loads(line) for line in here.engine.log().splitlines() if '"audit":"refused"' in line]
    told = [tuple(one.get(name) for name in ("by", "door", "status", "request")) for one in lines]
    assert ("ours", "cdni", 403, "POST /triggers") in told


def test_a_full_engine_takes_no_trigger(tmp_path: Path) -> None:
    """It says so in HTTP's words, keeps nothing, and takes the next one when there is room."""
    held = Held()
    with (
        FakeNode(held) as node,
        CdniEngine(
            tmp_path,
            fake_table(node.url, name="edge-1") + site_tables("*.example.com"),
            live_subtasks_max=1,
        ) as engine,
    ):
        upstream = engine.upstream()
        first = upstream.create("purge", content_urls=[URL])
        refused = upstream.trigger("purge", content_urls=[URL, f"{URL}b"])
        assert (refused.status, "retry-after" in refused.headers) == (503, True), refused
        assert upstream.listed() == [first]
        held.released.set()
        assert upstream.wait_for(first)["status"] == "complete"
        assert upstream.trigger("purge", content_urls=[URL]).status == 201


def test_cancelled_and_deleted_triggers_are_sent_no_more(here: Here) -> None:
    """A node that answers nothing: what has been sent counts as cancelled, and the trigger has failed."""
    here.held.released.clear()
    try:
        first = here.ours.create("purge", content_urls=[URL])
        second = here.ours.create("purge", content_urls=[URL])
        here.ours.wait_for(first, "active")
        assert here.ours.cancel(first).status == 200
        status = here.ours.status(first)
        assert (status["status"], status["errors"][0]["error"]) == ("cancelled", "ecanceled")
        assert status["errors"][0]["content.urls"] == [URL]
        assert first in here.ours.listed("failed")
        assert here.ours.cancel(first).status == 200
        assert here.ours.ask("DELETE", second).status == 204
        assert here.ours.ask("GET", second).status == 404
    finally:
        here.held.released.set()


def test_a_failure_names_what_the_client_named(here: Here, tmp_path: Path) -> None:
    """Not the form in which the engine keeps it."""
    urls = ["https://WWW.example.com:443/a", "https://www.example.com/ok"]

    def script(request: object) -> list[bytes]:
        return [
            b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n"
            if "/a" in str(request)
            else b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        ]

    tables = site_tables("*.example.com")
    with (
        FakeNode(script) as node,
        CdniEngine(tmp_path, fake_table(node.url, name="edge-1") + tables) as engine,
    ):
        upstream = engine.upstream()
        path = upstream.create("purge", content_urls=urls)
        status = upstream.wait_for(path)
    assert status["status"] == "failed", status
    [error] = status["errors"]
    assert (error["error"], error["content.urls"]) == ("ecdn", urls[:1])
    assert "edge-1" in error["description"]


def test_the_command_type_is_taken_in_any_case_and_quoted(here: Here) -> None:
    body = {"trigger": {"type": "purge", "content.urls": [URL]}, "cdn-path": [UPSTREAM]}
    for line in (
        'Content-Type: Application/CDNI;PType="ci-trigger-command"',
        f"Content-Type: {COMMAND} ; charset=utf-8",
    ):
        assert here.ours.ask("POST", "/triggers", body, line).status == 201
