"""Doors for caches' own clients: their bytes, their answers, and what is no purge. The cache is scripted."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from release.lab.caches import free_port
from tests.fakes.cache_clients import CLIENTS, SHOP, SITE, keys
from tests.fakes.node import FakeNode
from tests.rigs.door import DoorEngine, access, door_table
from tests.rigs.engine_process import fake_table
from tests.rigs.raw_client import RawClient
from tests.rigs.supervised_engine import SupervisedEngine
from tests.waiting import wait_until

PURGE = f"PURGE /a HTTP/1.1\r\nHost: {SITE}\r\n\r\n".encode()


class Here(NamedTuple):
    """An engine with a door, in front of a scripted node."""

    node: FakeNode
    engine: DoorEngine
    with_default: int  #: the port of a second door, which has a host for who names none


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    folder = tmp_path_factory.mktemp("doors")
    door: dict[str, object] = {"names": ["varnish"], "allow": ["127.0.0.1"]}
    second = free_port()
    more = door_table(second, default_hosts=[SITE])
    with (
        FakeNode() as node,
        DoorEngine(
            folder, fake_table(node.url, name="edge-1"), SITE, SHOP, door=door, more=more, header_timeout_s=1
        ) as engine,
    ):
        yield Here(node, engine, second)


@pytest.mark.parametrize("name", CLIENTS)
def test_every_client_of_the_table_is_understood(name: str, here: Here) -> None:
    """Its bytes are a task of the kind and with the targets of docs/cms.md, and the answer is 200."""
    kind, targets, _, default_host = sent = CLIENTS[name]
    with RawClient(here.with_default if default_host else here.engine.door_port) as client:
        answer = client.ask(sent.bytes)
    assert answer.status == 200, answer
    assert kind in answer.body.decode().splitlines()[0]
    task = here.engine.wait_for(answer.headers["purgeline-task"])
    assert (task["state"], task["kind"], task["targets"], task["errors"]) == ("done", kind, targets, [])
    assert task["by"] == {"token": "cms", "address": "127.0.0.1", "door": "purge"}


def test_the_table_of_the_documentation_has_these_clients() -> None:
    page = (Path(__file__).parents[2] / "docs/cms.md").read_text()
    for name in CLIENTS:
        assert name.split()[0] in page, name


def test_what_a_refresh_asks_for_is_purged_and_fetched(here: Here) -> None:
    here.engine.purge(f"GET /fresh HTTP/1.1\r\nHost: {SITE}\r\nCache-Control: no-cache\r\n\r\n".encode())
    seen = [request.method for request in here.node.requests if request.path == "/fresh"]
    assert seen == ["PURGE", "GET"]


def test_pipelined_requests_are_answered_in_order(here: Here) -> None:
    """What comes behind a refused one is answered, too, and an empty line between two is passed over."""
    bad = f"PURGE /b HTTP/1.1\r\nHost: {SITE}\r\nX-Purge-Method: no\r\n\r\n".encode()
    last = PURGE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with here.engine.client() as client:
        client.send(PURGE + bad + b"\r\n" + PURGE + last)
        assert [client.answer().status for _ in range(4)] == [200, 400, 200, 200]
        assert client.is_closed()


@pytest.mark.parametrize(("field", "is_kept"), [("", False), ("Connection: keep-alive\r\n", True)])
def test_http_1_0_is_kept_alive_when_it_asks_for_that(field: str, *, is_kept: bool, here: Here) -> None:
    with here.engine.client() as client:
        answer = client.ask(f"PURGE /a HTTP/1.0\r\nHost: {SITE}\r\n{field}\r\n".encode())
        assert (answer.status, answer.headers["connection"]) == (200, "keep-alive" if is_kept else "close")
        if is_kept:
            assert client.ask(PURGE).status == 200
        else:
            assert client.is_closed()


def test_a_head_may_come_in_pieces_and_not_too_slowly(here: Here) -> None:
    with here.engine.client() as client:
        for byte in PURGE:
            client.send(bytes([byte]))
        assert client.answer().status == 200
        client.send(PURGE[:-1])
        assert client.answer().status == 408
        assert client.is_closed()


@pytest.mark.parametrize(
    ("text", "status", "says"),
    [
        (f"PURGE /a HTTP/1.1\r\nHost: {SITE}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "body"),
        (f"PURGE /a HTTP/1.1\r\nHost: {SITE}\r\nContent-Length: 99999\r\n\r\n", 400, "body"),
        (f"PURGE /a HTTP/1.1\r\nHost: {SITE}\r\nHost: evil.org\r\n\r\n", 400, "host: is there twice"),
        (f"PURGE /a HTTP/1.1\r\nHost: {SITE}\nX: y\r\n\r\n", 400, "no field"),
        (f"PURGE /a HTTP/1.1\r\nHost: {SITE}\r\n folded\r\n\r\n", 400, "no field"),
        ("\x16\x03\x01 hello", 400, "no request"),
        (f"PURGE /{'a' * 70_000} HTTP/1.1\r\nHost: {SITE}\r\n\r\n", 431, "head is over"),
        (f"BAN / HTTP/1.1\r\nX-Cache-Tags: {'tag,' * 20_000}\r\n\r\n", 431, "several requests"),
    ],
)
def test_what_could_hide_another_request_ends_the_connection(
    text: str, status: int, says: str, here: Here
) -> None:
    """The purge that came behind it is not read."""
    hidden = f"PURGE /hidden HTTP/1.1\r\nHost: {SITE}\r\n\r\n"
    with here.engine.client() as client:
        client.send((text + hidden).encode())
        answer = client.answer()
        assert (answer.status, answer.headers["connection"]) == (status, "close")
        assert says in answer.body.decode()
        assert client.is_closed()
    assert "/hidden" not in [request.path for request in here.node.requests]


@pytest.mark.parametrize(
    ("text", "status", "says"),
    [
        ("PURGE /a HTTP/1.1\r\nHost: evil.org\r\n\r\n", 403, "not among the sites"),
        ("PURGE http://evil.org/a HTTP/1.1\r\nHost: www.example.com\r\n\r\n", 403, "not among the sites"),
        ("BAN / HTTP/1.1\r\nX-Host: ^(evil\\.org)$\r\n\r\n", 403, "not among the sites"),
        ("BAN / HTTP/1.1\r\nHost: evil.org\r\nX-Cache-Tags: a\r\n\r\n", 403, "not among the sites"),
        ("PURGE /a HTTP/1.1\r\nHost: varnish\r\n\r\n", 400, "default_hosts"),
        ("PURGE /a HTTP/1.1\r\n\r\n", 400, "default_hosts"),
        ("DELETE /a HTTP/1.1\r\nHost: www.example.com\r\n\r\n", 405, "takes PURGE"),
        ("BAN / HTTP/1.1\r\nX-Url: (a\r\n\r\n", 422, "no pattern that a cache can read"),
        (f"BAN / HTTP/1.1\r\nX-Url: {'(a' * 500}{')' * 500}\r\n\r\n", 422, "groups within each other"),
        ("BAN / HTTP/1.1\r\nX-Cache-Tags: (a+)+|b\r\n\r\n", 400, "list of tags"),
        (f"BAN / HTTP/1.1\r\nX-Cache-Tags: {'a' * 1025}\r\n\r\n", 422, "1-1024 visible"),
        (f"PURGE /a HTTP/1.1\r\nHost: {SITE}\r\nContent-Length: 3\r\n\r\nabc", 400, "no body"),
    ],
)
def test_what_cannot_be_purged_is_a_plain_sentence_and_no_task(
    text: str, status: int, says: str, here: Here
) -> None:
    """The connection goes on: the client may send something better."""
    before = here.engine.get("/v1/engine/stats")["qps_boss"]["count"]
    with here.engine.client() as client:
        answer = client.ask(text.encode())
        assert (answer.status, answer.headers["content-type"]) == (status, "text/plain; charset=utf-8")
        assert says in answer.body.decode()
        assert "purgeline-task" not in answer.headers
        assert here.engine.get("/v1/engine/stats")["qps_boss"]["count"] == before
        assert client.ask(PURGE).status == 200


def test_a_long_list_of_tags_is_split_without_cutting_one(here: Here) -> None:
    names = [f"t{number}" for number in range(6000)]
    answer = here.engine.ask(f"BAN / HTTP/1.1\r\nCache-Tags: {' '.join(names)}\r\n\r\n".encode())
    ids = answer.headers["purgeline-task"].split(", ")
    assert [here.engine.wait_for(task_id)["target_count"] for task_id in ids] == [10_000, 2000]
    sent = {request.headers.get("purgeline-key") for request in here.node.requests}
    assert set(keys(*names)) <= sent


def test_acked_answers_when_every_node_has_done_it_or_says_what_is_on_its_way(tmp_path: Path) -> None:
    """A node that is away does not hold the client up; one of the two doors does not wait at all."""
    second = free_port()
    more = door_table(second)
    with FakeNode() as node, FakeNode() as away:
        nodes = fake_table(node.url, name="edge-1") + fake_table(away.url, name="edge-2")
        with DoorEngine(
            tmp_path, nodes, door={"wait": "acked"}, more=more, request_timeout_s=0.2, connect_timeout_s=0.2
        ) as engine:
            assert b"2 of 2 subtasks acked" in engine.ask(PURGE).body
            away.stop()
            wait_until(lambda: b"1 on their way (edge-2)" in engine.ask(PURGE).body, what="edge-2 being away")
            answer = engine.ask(PURGE)
            assert (answer.status, answer.body.decode().splitlines()[1][:21]) == (
                200,
                "1 of 2 subtasks acked",
            )
            with RawClient(second) as client:
                assert b"saved, 2 subtasks" in client.ask(PURGE).body
            away.start()
            assert engine.wait_for(answer.headers["purgeline-task"])["state"] == "done"


def test_who_may_purge_is_told_by_address_and_by_secret_and_a_flood_harms_no_other_door(
    tmp_path: Path,
) -> None:
    """The token's rate holds: 429 with Retry-After. The engine's own port and the other door go on."""
    ports = [free_port(), free_port()]
    digest = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"  # of "secret"
    more = access("*.other.org", name="slow", sha256="0" * 64, rate_per_s=0.01, burst_count=3)
    more += door_table(ports[0], secret_header="X-Secret", secret_sha256=digest, allow=["127.0.0.0/8"])
    more += door_table(ports[1], token="slow", names=["x"])
    with (
        FakeNode() as node,
        DoorEngine(
            tmp_path, fake_table(node.url, name="edge-1"), door={"allow": ["10.0.0.0/8"]}, more=more
        ) as engine,
    ):
        assert engine.ask(PURGE).status == 403
        with RawClient(ports[0]) as client:
            assert client.ask(PURGE).status == 403
            assert client.ask(PURGE.replace(b"\r\n\r\n", b"\r\nX-Secret: wrong\r\n\r\n")).status == 403
            assert client.ask(PURGE.replace(b"\r\n\r\n", b"\r\nx-secret: secret\r\n\r\n")).status == 200
        flood = [f"PURGE /{number} HTTP/1.1\r\nHost: a.other.org\r\n\r\n".encode() for number in range(1000)]
        with RawClient(ports[1]) as client:
            client.send(b"".join(flood))
            answers = [client.answer() for _ in flood]
        assert [answer.status for answer in answers] == [200] * 3 + [429] * 997
        assert int(answers[-1].headers["retry-after"]) > 10
        with RawClient(ports[0]) as client:
            assert client.ask(PURGE.replace(b"\r\n\r\n", b"\r\nx-secret: secret\r\n\r\n")).status == 200
        assert engine.wait_for(engine.submit([f"http://{SITE}/x"]))["state"] == "done"


def test_a_reload_keeps_a_door_open_and_opens_and_closes_doors(tmp_path: Path) -> None:
    """No purge is refused meanwhile: the supervisor holds the sockets of doors, too."""
    first, second = free_port(), free_port()
    with FakeNode() as node:
        common = fake_table(node.url, name="edge-1") + access(SITE)
        with (
            SupervisedEngine(tmp_path, common + door_table(first), workers=2) as engine,
            RawClient(first) as kept,
        ):
            assert kept.ask(PURGE).status == 200
            engine.configure(common + door_table(first) + door_table(second, default_hosts=[SITE]))
            before = {worker["generation"] for worker in engine.workers()}
            os.kill(engine.pid, signal.SIGHUP)
            while before & {worker["generation"] for worker in engine.workers()}:
                with RawClient(first) as client:
                    assert client.ask(PURGE).status == 200
            with RawClient(second) as client:
                assert client.ask(b"PURGE /a HTTP/1.1\r\n\r\n").status == 200
            engine.configure(common + door_table(second))
            engine.hang_up()
            engine.wait_for_quiet()
            wait_until(lambda: not accepts(first), what="the first door being closed")
            assert accepts(second)


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True
