"""The built-in caching proxy, over real sockets, in front of the real origin."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from engine.config.tables import NodeConfig
from engine.nodes import drivers
from engine.tasks.words import Operation, Outcome
from release.lab import cacheproxy
from release.lab.cacheproxy import CacheProxy, fresh_s
from release.lab.caches import free_port
from release.lab.cachestore import Store, Stored
from release.lab.origin import Origin
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
HOST = "img.example.com"


class Visitor:
    """One client with keep-alive; its last answer is in `status`, `headers` and `body`."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self.session = session
        self.port = port
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    async def ask(self, path: str, *, method: str = "GET", host: str = HOST, **headers: str) -> str:
        """Send a request and return its ``X-Cache``."""
        url = URL(f"http://127.0.0.1:{self.port}{path}", encoded=True)
        async with self.session.request(method, url, headers={"Host": host, **headers}) as answer:
            self.status, self.headers = answer.status, {k.title(): v for k, v in answer.headers.items()}
            self.body = await answer.read()
        return self.headers.get("X-Cache", "")

    async def purge(self, path: str, *, host: str = HOST) -> int:
        await self.ask(path, method="PURGE", host=host)
        assert self.body == b""
        return self.status


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


@contextlib.asynccontextmanager
async def running(backend: str, folder: Path) -> AsyncIterator[Visitor]:
    proxy = CacheProxy(backend, folder)
    port = await proxy.start(0)
    try:
        async with aiohttp.ClientSession() as session:
            yield Visitor(session, port)
    finally:
        await proxy.stop()


@pytest.fixture
async def visitor(origin: Origin, tmp_path: Path) -> AsyncIterator[Visitor]:
    async with running(origin.address, tmp_path) as found:
        yield found


async def test_a_page_is_fetched_once_and_then_served_from_the_cache(
    origin: Origin, visitor: Visitor
) -> None:
    assert [await visitor.ask("/a?x=1"), await visitor.ask("/a?x=1")] == ["MISS", "HIT"]
    assert visitor.body == f"v1 {HOST}/a?x=1".encode()
    assert visitor.headers["Age"].isdecimal()
    assert origin.hits == {(HOST, "/a?x=1"): 1}


async def test_purge_answers_200_and_then_404_and_brings_new_content(
    origin: Origin, visitor: Visitor
) -> None:
    await visitor.ask("/a")
    origin.version = "v2"
    assert await visitor.ask("/a") == "HIT"
    assert visitor.body.startswith(b"v1")
    assert [await visitor.purge("/a"), await visitor.purge("/a")] == [200, 404]
    assert await visitor.ask("/a") == "MISS"
    assert visitor.body.startswith(b"v2")
    assert origin.methods == {"GET": 2}


async def test_host_and_spelling_of_the_path_are_part_of_the_key(origin: Origin, visitor: Visitor) -> None:
    """The host without regard to case and default port; the path as sent."""
    await visitor.ask("/a%2Fb")
    assert await visitor.ask("/a/b") == "MISS"
    assert await visitor.ask("/a%2Fb", host="other.example.com") == "MISS"
    assert await visitor.ask("/a%2Fb", host=f"{HOST.upper()}:80") == "HIT"
    assert await visitor.purge("/a%2Fb") == 200
    assert await visitor.ask("/a/b") == "HIT"
    assert await visitor.ask("/a%2Fb", host="other.example.com") == "HIT"
    assert await visitor.ask("//double") == "MISS"
    assert origin.hits[HOST, "//double"] == 1


@pytest.mark.parametrize(
    ("headers", "wanted_s"),
    [
        ({"Cache-Control": "max-age=60"}, 60),
        ({"Cache-Control": "public, max-age=60, s-maxage=5"}, 5),
        ({"Cache-Control": "max-age=0"}, 0),
        ({"Cache-Control": "no-store, max-age=60"}, 0),
        ({"Cache-Control": "Private, max-age=60"}, 0),
        ({"Cache-Control": "max-age=60", "Set-Cookie": "a=b"}, 0),
        ({"Cache-Control": "max-age=60", "Vary": "Accept-Encoding"}, 60),
        ({"Cache-Control": "max-age=60", "Vary": "Cookie"}, 0),
        ({}, 0),
    ],
)
def test_freshness_is_what_the_origin_allows(headers: dict[str, str], wanted_s: float) -> None:
    assert fresh_s(200, headers) == wanted_s
    assert fresh_s(503, headers) == 0


async def test_an_object_past_its_max_age_is_fetched_again(origin: Origin, visitor: Visitor) -> None:
    """The age it had when it came counts, as behind another cache."""
    origin.set(HOST, "/old", b"x", headers={"Cache-Control": "max-age=60", "Age": "60"})
    origin.set(HOST, "/young", b"x", headers={"Cache-Control": "max-age=60", "Age": "30"})
    assert [await visitor.ask("/old"), await visitor.ask("/old")] == ["MISS", "MISS"]
    assert [await visitor.ask("/young"), await visitor.ask("/young")] == ["MISS", "HIT"]
    assert 30 <= int(visitor.headers["Age"]) < 60


async def test_private_answers_ranges_and_logins_are_passed_on(origin: Origin, visitor: Visitor) -> None:
    origin.set(HOST, "/private", b"x", headers={"Cache-Control": "private"})
    assert [await visitor.ask("/private") for _ in range(2)] == ["MISS", "MISS"]
    await visitor.ask("/a", Range="bytes=0-1")
    await visitor.ask("/a", Authorization="Bearer x")
    assert await visitor.ask("/a") == "MISS"
    assert await visitor.ask("/a", method="HEAD") == "HIT"
    assert (visitor.body, visitor.headers["Content-Length"]) == (b"", str(len(f"v1 {HOST}/a")))
    assert origin.hits[HOST, "/a"] == 3


async def test_other_methods_are_refused(origin: Origin, visitor: Visitor) -> None:
    await visitor.ask("/a", method="POST")
    assert (visitor.status, visitor.headers["Allow"], origin.methods["POST"]) == (405, "GET, HEAD, PURGE", 0)


async def test_twenty_visitors_at_once_cost_one_fetch(origin: Origin, visitor: Visitor) -> None:
    origin.set(HOST, "/slow", b"x", delay_s=0.3)
    visitors = [Visitor(visitor.session, visitor.port) for _ in range(20)]
    await asyncio.gather(*(one.ask("/slow") for one in visitors))
    assert {one.body for one in visitors} == {b"x"}
    assert origin.hits[HOST, "/slow"] == 1


async def test_a_fetch_overtaken_by_a_purge_is_not_stored(origin: Origin, visitor: Visitor) -> None:
    """Else the old content would come back after the purge was acked."""
    origin.set(HOST, "/slow", b"old", delay_s=0.5)
    fetching = asyncio.create_task(visitor.ask("/slow"))
    await until(lambda: origin.hits[HOST, "/slow"] == 1)
    other = Visitor(visitor.session, visitor.port)
    assert await other.purge("/slow") == 404
    await fetching
    assert visitor.body in {b"old", b"new"}
    origin.set(HOST, "/slow", b"new")
    assert await visitor.ask("/slow") == "MISS"
    assert visitor.body == b"new"


async def test_an_object_too_big_to_keep_is_passed_on(
    origin: Origin, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cacheproxy, "OBJECT_MAX_BYTES", 100_000)
    origin.set_size(HOST, "/big", 300_000)
    assert [await visitor.ask("/big") for _ in range(2)] == ["MISS", "MISS"]
    assert len(visitor.body) == 300_000


async def test_a_backend_that_is_gone_is_a_502_and_no_object(origin: Origin, visitor: Visitor) -> None:
    origin.stop()
    await visitor.ask("/a")
    assert visitor.status == 502
    origin.start()
    assert await visitor.ask("/a") == "MISS"
    assert visitor.status == 200


async def test_a_proxy_behind_a_proxy_serves_both_layers(
    origin: Origin, visitor: Visitor, tmp_path: Path
) -> None:
    async with running(f"127.0.0.1:{visitor.port}", tmp_path / "edge") as edge:
        assert [await edge.ask("/a"), await edge.ask("/a"), await visitor.ask("/a")] == ["MISS", "HIT", "HIT"]
        assert origin.hits[HOST, "/a"] == 1


async def test_absolute_form_and_pipelined_purges_are_answered_in_order(visitor: Visitor) -> None:
    """MediaWiki's form, and the engine's way of sending."""
    await visitor.ask("/a")
    reader, writer = await asyncio.open_connection("127.0.0.1", visitor.port)
    writer.write(f"PURGE http://{HOST}/a HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    writer.write(f"PURGE /a HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode() * 3)
    statuses: list[int] = []
    async with asyncio.timeout(20):
        while len(statuses) < 4:
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"content-length: 0" in head.lower()
            statuses.append(int(head.split()[1]))
    assert statuses == [200, 404, 404, 404]
    writer.close()
    await writer.wait_closed()


def test_the_engine_reads_its_answers_as_those_of_squid() -> None:
    node = NodeConfig(name="edge-1", driver="squid", url="http://127.0.0.1:1")
    assert drivers.read(node, Operation.PURGE_URL, 200, 0) is Outcome.ACKED
    assert drivers.read(node, Operation.PURGE_URL, 404, 0) is Outcome.ABSENT
    assert drivers.read(node, Operation.PURGE_URL, 403, 26) is Outcome.REFUSED


def test_the_store_stays_below_its_limit_and_drops_what_was_not_used(tmp_path: Path) -> None:
    def stored(key: str) -> Stored:
        return Stored(key=key, status=200, headers=[], body=b"x" * 100, since=2**40, fresh_s=60)

    store = Store(tmp_path, max_bytes=250)
    store.put(stored("a"))
    store.put(stored("b"))
    assert store.get("a") is not None
    store.put(stored("c"))
    assert [key for key in "abc" if store.get(key)] == ["a", "c"]
    assert (store.used_bytes, len(list(tmp_path.iterdir()))) == (200, 2)


def test_files_that_are_not_objects_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "odd.object").write_bytes(b"no json\nbody")
    (tmp_path / "list.object").write_bytes(b"{}\nbody")
    assert Store(tmp_path).used_bytes == 0
    assert len(list(tmp_path.iterdir())) == 2


async def test_a_killed_proxy_comes_back_with_what_it_had(origin: Origin, tmp_path: Path) -> None:
    """As nginx does; and SIGTERM ends it with exit code 0."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "release.lab.cacheproxy",
        "--port",
        str(port),
        "--backend",
        origin.address,
    ]
    command += ["--folder", str(tmp_path)]

    async def ask(session: aiohttp.ClientSession) -> str:
        visitor = Visitor(session, port)
        async with asyncio.timeout(20):
            while True:
                try:
                    return await visitor.ask("/a")
                except aiohttp.ClientError:
                    await asyncio.sleep(0.02)

    seen = []
    for number in (signal.SIGKILL, signal.SIGTERM):
        with subprocess.Popen(command, cwd=ROOT) as process:  # noqa: ASYNC220 - returns at once
            try:
                async with aiohttp.ClientSession() as session:
                    seen.append(await ask(session))
            finally:
                os.kill(process.pid, number)
            assert process.wait(20) == (-number if number == signal.SIGKILL else 0)
    assert seen == ["MISS", "HIT"]
