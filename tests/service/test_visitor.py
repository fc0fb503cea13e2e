"""Visits to real servers: what is read of an answer, and what bounds it."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from engine.config.tables import NodeConfig, OriginConfig
from engine.nodes.address import Address
from engine.nodes.origin_guard import OriginGuards
from engine.proof.truth import Origins
from engine.proof.visitor import VisitError, Visitor, visit_address
from release.lab.origin import Origin
from tests.fakes.certificate import make_certificate
from tests.fakes.node import FakeNode, always, answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

URL = "http://www.test/page?b=1&a=%7E"


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture
async def visitor() -> AsyncIterator[Visitor]:
    visitor = Visitor(body_max_bytes=100_000, timeout_s=0.3)
    yield visitor
    await visitor.close()


def at(origin: Origin) -> Address:
    return Address("127.0.0.1", origin.port, None)


async def test_an_answer_is_read_with_its_fields_and_digests(origin: Origin, visitor: Visitor) -> None:
    body = gzip.compress(b"content")
    fields = {"ETag": '"1"', "Content-Encoding": "gzip", "Age": "7"}
    origin.set("www.test", "/page?b=1&a=%7E", body, headers=fields)
    seen = await visitor.visit(at(origin), URL, accept_encoding="gzip")
    assert (seen.status, seen.strong_etag, seen.age_s, seen.body_bytes) == (200, '"1"', 7, len(body))
    assert seen.digest == hashlib.sha256(body).hexdigest()
    assert seen.content_digest == hashlib.sha256(b"content").hexdigest()


async def test_a_packed_body_is_unpacked_as_far_as_one_is_read(origin: Origin, visitor: Visitor) -> None:
    origin.set("www.test", "/", gzip.compress(bytes(50_000_000)), headers={"Content-Encoding": "gzip"})
    seen = await visitor.visit(at(origin), "http://www.test/")
    assert seen.is_whole
    assert seen.content_digest == ""


async def test_a_long_body_is_left_where_it_is_too_long(origin: Origin, visitor: Visitor) -> None:
    origin.set_size("www.test", "/", 10**6)
    seen = await visitor.visit(at(origin), "http://www.test/")
    assert (seen.is_whole, seen.digest) == (False, "")
    assert seen.field("content-length") == str(10**6)


async def test_an_answer_for_ever_ends_with_the_time(visitor: Visitor) -> None:
    ended = asyncio.Event()

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"1\r\nx\r\n")
            await asyncio.sleep(0.01)
        writer.close()
        ended.set()

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    address = Address("127.0.0.1", server.sockets[0].getsockname()[1], None)
    async with server:
        with pytest.raises(VisitError, match="no whole answer within"):
            await visitor.visit(address, URL)
        await ended.wait()


async def test_visitors_come_in_where_the_node_says() -> None:
    node = NodeConfig(name="n", driver="varnish", url="http://127.0.0.1:1", visit_url="http://127.0.0.1:2")
    assert visit_address(node).port == 2
    named = NodeConfig(name="n", driver="ats", url="https://127.0.0.1:1", server_name="www.test")
    assert visit_address(named).server_name == "www.test"


async def test_tls_asks_for_the_name_that_the_node_says(tmp_path: Path) -> None:
    """The certificate is for 127.0.0.1: with another name to check, there is no visit."""
    ca_file, context = make_certificate(tmp_path, "edge")
    visitor = Visitor(body_max_bytes=100_000)  # a handshake takes its time on a busy machine
    with FakeNode(always(answer(200, b"page")), tls=context) as node:
        table = NodeConfig(name="n", driver="varnish", url=node.url, ca_file=str(ca_file))
        assert (await visitor.visit(visit_address(table), URL)).body_bytes == 4
        other = msgspec.structs.replace(table, server_name="www.test")
        with pytest.raises(VisitError, match=r"www\.test"):
            await visitor.visit(visit_address(other), URL)
    await visitor.close()


async def test_the_origin_is_asked_once_for_all(origin: Origin, visitor: Visitor) -> None:
    config = [OriginConfig(host="*.test", url=origin.url)]
    origins = Origins(config, OriginGuards(config, time.monotonic), visitor)
    began = time.monotonic()
    answers = await asyncio.gather(*(origins.read(URL, since=began) for _ in range(9)))
    assert all(each == answers[0] for each in answers)
    assert sum(origin.hits.values()) == 1
    await origins.read(URL, since=time.monotonic())
    assert sum(origin.hits.values()) == 2


async def test_an_origin_in_trouble_is_left_alone(origin: Origin, visitor: Visitor) -> None:
    config = [OriginConfig(host="*", url=origin.url)]
    guards = OriginGuards(config, time.monotonic)
    origins = Origins(config, guards, visitor)
    origin.status = 503
    assert (await origins.read(URL, since=0)).status == 503
    assert guards.all[0].pauses_s > 0
    assert guards.all[0].reason == "answered 503"
