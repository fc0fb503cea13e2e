"""Purges that real caches answered themselves, and those that they passed on: what `whose` says of each.

Who answered is not taken from the answer: an object is cached, the content behind it changes, the purge is
sent, and a visitor looks. Old content: the cache did nothing. The origin's log has every purge that got
through, and tells where nothing was cached. No answer that was passed on reads as the cache's own, whatever
an origin says; an answer is not told only where nothing in its bytes could tell.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from engine.config.tables import NodeConfig
from engine.nodes import drivers
from engine.nodes.address import Address
from engine.nodes.evidence import Whose
from engine.nodes.findings import Place, Verdict
from engine.nodes.health import NodeState
from engine.nodes.inspection import inspect, prove
from engine.nodes.judge import Judge
from engine.nodes.probe import Probe
from engine.nodes.wire import AnswerReader
from engine.tasks.words import Operation
from release.lab.origin import Origin
from tests.rigs import forwarding
from tests.rigs.engine_process import get_page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.nodes.answer import Answer
    from release.lab.caches import Cache

OWN, UNTOLD, FORWARDED = Whose
BEHIND = {"parents": ["parent-1"]}
PAGE = b"<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>gone</body>\r\n</html>\r\n"

NGINX_PAGE = (
    "<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>\r\n"
    "<center><h1>404 Not Found</h1></center>\r\n"
    "<hr><center>FOOTER</center>\r\n</body>\r\n</html>\r\n"
)

_numbers = itertools.count(1)


class Row(NamedTuple):
    """One way in which a cache is configured, the host that has it, and what its answers read as."""

    host: str
    whose: Whose
    is_own: bool
    extra: dict[str, Any] = {}  # noqa: RUF012 - of the node, and never changed
    operation: Operation = Operation.PURGE_URL


class Rig:
    """A cache, what is behind it, and the one that asks."""

    def __init__(self, cache: Cache, origin: Origin, parent: int | None = None) -> None:
        self.cache = cache
        self.origin = origin
        self._parent = parent  # its port

    def node(self, **extra: Any) -> NodeConfig:
        driver: Any = self.cache.driver
        return NodeConfig(name="edge-1", driver=driver, url=self.cache.url, **extra)

    def place(self, **extra: Any) -> Place:
        return Place(self.node(**extra), Address("127.0.0.1", self.cache.port, None))

    def above(self, row: Row) -> list[Place]:
        if "parents" not in row.extra:
            return []
        assert self._parent is not None
        return [Place(self.node(), Address("127.0.0.1", self._parent, None))]

    def ask(self, row: Row, path: str) -> bytes:
        """Send what the driver sends; return the answer as `whose` takes it."""
        text = drivers.requester(self.node(**row.extra), row.operation)(f"http://{row.host}{path}")
        return exchange(self.cache.port, text)

    def whose(self, row: Row, path: str, answer: bytes) -> Whose:
        return drivers.whose(self.node(**row.extra), row.operation, f"http://{row.host}{path}", answer)

    def purges(self) -> int:
        """Return how many purges have got through to the origin."""
        return sum(count for method, count in self.origin.methods.items() if method != "GET")

    def fill(self, host: str, path: str) -> None:
        """Have an old page cached, here and at the parent; then the parent, if any, has it no more."""
        self.origin.version = "v1"
        get_page(self.cache, path, host=host)
        self.origin.version = "v2"
        if self._parent is not None:
            location = self.cache.purge_path
            exchange(self._parent, f"PURGE {location}{path} HTTP/1.1\r\nHost: {host}\r\n\r\n")

    def is_old(self, host: str, path: str) -> bool:
        return get_page(self.cache, path, host=host)[1].startswith(b"v1 ")


def exchange(port: int, text: str) -> bytes:
    """Send *text* on a connection of its own; return the head of the answer and up to 2 KiB of its body."""
    answers: list[Answer] = []
    reader, data, rest = AnswerReader(), b"", bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(text.encode("ascii"))
        while not answers:
            chunk = sock.recv(65536)
            data += chunk
            rest += chunk
            if not chunk:
                reader.feed_eof(answers)
                break
            del rest[: reader.feed(rest, len(rest), answers)]
    return data[: data.index(b"\r\n\r\n") + 4 + 2048]


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


@pytest.fixture(autouse=True)
def _as_new(origin: Origin) -> Iterator[None]:
    yield
    origin.reset()
    origin.version = "v1"


@pytest.fixture(scope="module")
def varnish(tmp_path_factory: pytest.TempPathFactory, origin: Origin) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("varnish")
    with (
        forwarding.varnish_parent(folder, origin) as parent,
        forwarding.varnish(folder, origin, parent) as cache,
    ):
        yield Rig(cache, origin, parent.port)


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory, origin: Origin) -> Iterator[Rig]:
    cache, parent = forwarding.nginx(tmp_path_factory.mktemp("nginx"), origin)
    with cache:
        yield Rig(cache, origin, parent)


@pytest.fixture(scope="module")
def ats(tmp_path_factory: pytest.TempPathFactory, origin: Origin) -> Iterator[Rig]:
    with forwarding.ats(tmp_path_factory.mktemp("ats"), origin) as cache:
        yield Rig(cache, origin)


@pytest.fixture(scope="module")
def squid(tmp_path_factory: pytest.TempPathFactory, origin: Origin) -> Iterator[Rig]:
    with forwarding.squid(tmp_path_factory.mktemp("squid"), origin) as cache:
        yield Rig(cache, origin)


@pytest.fixture
def path() -> str:
    return f"/{next(_numbers)}.jpg"


def check(rig: Rig, row: Row, path: str) -> None:
    """Purge what is cached, and see whose the answer is and who did it."""
    rig.fill(row.host, path)
    before = rig.purges()
    answer = rig.ask(row, path)
    assert (rig.whose(row, path, answer), rig.is_old(row.host, path)) == (row.whose, not row.is_own), answer
    assert not (row.is_own and rig.purges() > before), "the origin's log has it"


@pytest.mark.parametrize(
    "row",
    [
        Row("purge.test", OWN, True),
        Row("purge.parent.test", UNTOLD, True, BEHIND),
        Row("stripped.test", UNTOLD, True),
        Row("pipe.test", FORWARDED, False),
        Row("pipe.parent.test", FORWARDED, False, BEHIND),
        Row("keep.test", FORWARDED, False),
        Row("keep.parent.test", UNTOLD, False, BEHIND),
        Row("marking.parent.test", FORWARDED, False, BEHIND),
        Row("pass.test", FORWARDED, False),
        Row("pass.parent.test", FORWARDED, False, BEHIND),
        Row("bare.test", UNTOLD, False),
        Row("bare.parent.test", UNTOLD, False, BEHIND),
        Row("hash.test", FORWARDED, False),
        Row("restart.test", FORWARDED, True),
        Row("pipe.test", FORWARDED, False, {}, Operation.PURGE_PREFIX),
    ],
    ids=str,
)
def test_varnish(varnish: Rig, row: Row, path: str) -> None:
    """A synthetic answer is its own; what was piped, passed or looked up is not.

    Nor reads a purge so that goes on as a GET, though it is done: a page says nothing of it.
    """
    check(varnish, row, path)


@pytest.mark.parametrize(
    "row",
    [
        Row("purge.test", OWN, True),
        Row("without.test", FORWARDED, False),
        Row("parent.test", UNTOLD, False, BEHIND),
        Row("renamed.test", UNTOLD, False, BEHIND),
    ],
    ids=str,
)
def test_nginx(nginx: Rig, row: Row, path: str) -> None:
    """The page of the module names the key; a parent that sees the same host says the very same."""
    if row.host == "renamed.test":  # the object that the parent drops has to be there
        exchange(nginx.cache.port, f"GET {path} HTTP/1.1\r\nHost: {row.host}\r\n\r\n")
        nginx.origin.version = "v2"
        answer = nginx.ask(row, path)
        assert nginx.whose(row, path, answer) is row.whose
        assert b"Key : other.test" in answer
        return
    if row.host == "parent.test":
        nginx.origin.version = "v1"
        get_page(nginx.cache, path, host=row.host)
        answer = nginx.ask(row, path)
        nginx.origin.version = "v2"
        assert (nginx.whose(row, path, answer), nginx.is_old(row.host, path)) == (row.whose, True), answer
        return
    check(nginx, row, path)


@pytest.mark.parametrize(
    "row",
    [
        Row("purge.test", OWN, True),
        Row("uncached.test", FORWARDED, False),
        Row("purge.test", FORWARDED, False, {"purge_method": "purge"}),
        Row("purge.test", FORWARDED, False, {"purge_method": "FLUSH"}),
    ],
    ids=str,
)
def test_ats(ats: Rig, row: Row, path: str) -> None:
    """Only with caching off, or for an unknown method, it passes a purge on."""
    if row.host == "uncached.test":
        answer = ats.ask(row, path)
        assert ats.origin.methods == {"PURGE": 1}
        assert ats.whose(row, path, answer) is row.whose
        return
    check(ats, row, path)


@pytest.mark.parametrize(
    "row",
    [
        Row("purge.test", OWN, True),
        Row("purge.test", FORWARDED, False, {"purge_method": "FLUSH"}),
    ],
    ids=str,
)
def test_squid(squid: Rig, row: Row, path: str) -> None:
    """It never passes PURGE on; unknown methods it does, and drops the object itself if that goes well."""
    before = squid.purges()
    answer = squid.ask(row, path)
    assert (squid.whose(row, path, answer), squid.purges() - before) == (row.whose, 0 if row.is_own else 1)
    if row.is_own:
        check(squid, row, path)


@pytest.mark.parametrize(
    ("name", "row", "status"),
    [
        ("varnish", Row("purge.test", OWN, True), 200),
        ("varnish", Row("refuse.test", OWN, True), 403),
        ("nginx", Row("purge.test", UNTOLD, True), 404),
        ("nginx", Row("refuse.test", UNTOLD, True), 403),
        ("ats", Row("purge.test", OWN, True), 404),
        ("ats", Row("refuse.test", OWN, True), 403),
        ("ats", Row("no-rule.test", OWN, True), 404),
        ("squid", Row("purge.test", OWN, True), 404),
        ("squid", Row("refuse.test", OWN, True), 403),
    ],
    ids=str,
)
def test_own_answers_without_an_object(
    name: str, row: Row, status: int, path: str, request: pytest.FixtureRequest
) -> None:
    """Absent and refused: the origin heard nothing of it."""
    rig: Rig = request.getfixturevalue(name)
    answer = rig.ask(row, path)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert rig.whose(row, path, answer) is row.whose, answer
    assert not rig.origin.methods


@pytest.mark.parametrize("status", [200, 204, 404, 405, 403, 501])
@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("varnish", Row("pipe.test", FORWARDED, False)),
        ("varnish", Row("pass.test", FORWARDED, False)),
        ("nginx", Row("without.test", FORWARDED, False)),
        ("ats", Row("uncached.test", FORWARDED, False)),
        ("squid", Row("purge.test", FORWARDED, False, {"purge_method": "FLUSH"})),
    ],
    ids=str,
)
def test_whatever_an_origin_says_is_forwarded(
    name: str, row: Row, status: int, path: str, request: pytest.FixtureRequest
) -> None:
    """With a body and without one, in the words of any of the caches."""
    rig: Rig = request.getfixturevalue(name)
    asked = rig.cache.purge_path + path
    for headers, body in (
        ({}, b""),
        ({"Content-Type": "text/html", "Server": "nginx/1.22.1"}, PAGE),
        ({"Content-Type": "text/html", "Server": "Varnish", "X-Varnish": "5"}, b"<p>XID: 5</p>"),
        ({"Server": "squid/5.7", "Mime-Version": "1.0", "X-Cache-Lookup": "NONE from squid:1"}, b""),
        ({"Server": "ATS/9.2.9", "Cache-Control": "no-store"}, b""),
    ):
        rig.origin.set(row.host, asked, body if status != 204 else b"", headers=headers, status=status)
        before = rig.purges()
        answer = rig.ask(row, path)
        assert rig.purges() == before + 1
        assert rig.whose(row, path, answer) is FORWARDED, answer


def test_the_rules_for_ats_make_an_error_of_a_purge_that_it_passed_on(ats: Rig, path: str) -> None:
    """Without a mark, whatever the origin says."""
    row = Row("marking.test", FORWARDED, False)
    answer = ats.ask(row, path)
    assert ats.origin.methods == {"PURGE": 1}
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"Purgeline-Cache" not in answer
    assert ats.whose(row, path, answer) is FORWARDED


@pytest.mark.parametrize(
    ("name", "row", "verdict", "why"),
    [
        ("varnish", Row("", UNTOLD, True), Verdict.UNPROVEN, "with --url"),
        (
            "varnish",
            Row("", UNTOLD, True, {"evidence": "any"}),
            Verdict.TRUSTED,
            'evidence = "any", and nothing',
        ),
        ("varnish", Row("stripped.test", UNTOLD, True), Verdict.PROVEN, "no longer serves"),
        ("varnish", Row("bare.short.test", UNTOLD, True), Verdict.UNPROVEN, "does not cache"),
        ("varnish", Row("bare.test", UNTOLD, False), Verdict.UNPROVEN, "serves it on"),
        ("varnish", Row("keep.parent.test", UNTOLD, False, BEHIND), Verdict.UNPROVEN, "serves it on"),
        ("varnish", Row("pipe.test", UNTOLD, False), Verdict.FORWARDED, "a server behind it"),
        ("ats", Row("", OWN, True), Verdict.UNPROVEN, "has no rule for the hosts"),
        ("ats", Row("purge.test", OWN, True), Verdict.PROVEN, "has the shape that ats gives its own"),
        ("ats", Row("uncached.test", FORWARDED, False), Verdict.FORWARDED, "a server behind it"),
        ("nginx", Row("purge.test", UNTOLD, True), Verdict.PROVEN, "had http://purge.test/"),
        ("nginx", Row("parent.test", UNTOLD, False, BEHIND), Verdict.UNPROVEN, "answered 404"),
        ("nginx", Row("renamed.test", UNTOLD, False, BEHIND), Verdict.UNPROVEN, "not its own answer"),
    ],
    ids=str,
)
async def test_a_look_tells_where_no_answer_does(
    name: str, row: Row, verdict: Verdict, why: str, path: str, request: pytest.FixtureRequest
) -> None:
    """A page is fetched, purged at the parents and at the node, and looked at."""
    rig: Rig = request.getfixturevalue(name)
    url = f"http://{row.host}{path}" if row.host else ""
    rig.origin.set("bare.short.test", path, b"", headers={"Cache-Control": "max-age=5"})
    finding = await inspect(rig.place(**row.extra), rig.above(row), url=url, timeout_s=10)
    assert finding.verdict is verdict
    assert why in finding.why


async def test_a_page_that_visitors_ask_for_all_the_time_does_not_prove_an_nginx_that_passes_purges_on(
    nginx: Rig, path: str
) -> None:
    """They fill the parent again between its purge and that of the node, which the parent then answers."""
    row = Row("parent.test", UNTOLD, False, BEHIND)
    place, above = nginx.place(**row.extra), nginx.above(row)
    request = f"GET {path} HTTP/1.1\r\nHost: {row.host}\r\n\r\n"
    is_over = threading.Event()

    def visit() -> None:
        while not is_over.is_set():
            exchange(above[0].address.port, request)

    with ThreadPoolExecutor(2) as visitors:
        visits = [visitors.submit(visit) for _ in range(2)]
        try:
            for _ in range(20):
                finding = await prove(place, above, url=f"http://{row.host}{path}", timeout_s=10)
                assert finding.verdict is Verdict.UNPROVEN, finding.why
        finally:
            is_over.set()
    assert [visit.exception() for visit in visits] == [None, None]


async def test_a_page_proves_its_own_host_only(
    varnish: Rig, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One host is purged, another one is passed on, and no answer of that tells."""
    monkeypatch.setattr(drivers, "PROBE_TARGET", "http://purge.test/a")
    url = f"http://bare.test{path}"
    assert (await inspect(varnish.place(), [], url="", timeout_s=10)).verdict is Verdict.PROVEN
    for asking in (inspect, prove):
        finding = await asking(varnish.place(), [], url=url, timeout_s=10)
        assert (finding.verdict, "serves it on" in finding.why) == (Verdict.UNPROVEN, True)


async def test_every_host_of_the_configuration_is_asked(
    varnish: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The finding names the host whose purges are passed on."""
    monkeypatch.setattr(drivers, "PROBE_TARGET", "http://purge.test/a")
    finding = await inspect(varnish.place(), [], url="", hosts=["purge.test", "pipe.test"], timeout_s=10)
    assert (finding.verdict, finding.why.partition(":")[0]) == (Verdict.FORWARDED, "pipe.test")


async def test_a_varnish_behind_a_varnish_is_found_by_the_end_of_a_connection(
    varnish: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers are an own one byte by byte, and nobody said that it is there."""
    monkeypatch.setattr(drivers, "PROBE_TARGET", "http://keep.parent.test/a")
    finding = await inspect(varnish.place(), [], url="", timeout_s=10)
    assert (finding.verdict, "piped" in finding.why) == (Verdict.FORWARDED, True)
    monkeypatch.setattr(drivers, "PROBE_TARGET", "http://purge.test/a")
    assert (await inspect(varnish.place(), [], url="", timeout_s=10)).verdict is Verdict.PROVEN


@pytest.mark.parametrize(("host", "is_problem"), [("keep.parent.test", True), ("purge.test", False)])
async def test_the_probe_of_an_engine_finds_a_varnish_behind_a_varnish(
    varnish: Rig, monkeypatch: pytest.MonkeyPatch, host: str, is_problem: bool
) -> None:
    monkeypatch.setattr(drivers, "PROBE_TARGET", f"http://{host}/a")
    config, address = varnish.place()
    judge = Judge(config, asyncio.get_running_loop().time, 300)
    probe = Probe(config, address, judge, timeout_s=10, on_problem=print, on_answer=print)
    problem = await probe.ask()
    assert (problem is not None) is is_problem
    assert problem is None or problem.state is NodeState.UNPROVEN


@pytest.mark.parametrize(
    ("headers", "footer", "whose"),
    [
        ({}, "", UNTOLD),
        ({}, "nginx/0.1", FORWARDED),
        ({"Content-Type": "text/html; charset=utf-8"}, "", FORWARDED),
        ({"Via": "1.1 varnish"}, "", FORWARDED),
        ({"X-Varnish": "5"}, "", FORWARDED),
        ({"Age": "0"}, "", FORWARDED),
        ({"X-Cache": "MISS"}, "", FORWARDED),
    ],
)
def test_the_page_of_an_nginx_behind_an_nginx(
    nginx: Rig, headers: dict[str, str], footer: str, whose: Whose, path: str
) -> None:
    """Byte by byte an own one, unless it is another version's, or something between left a sign."""
    own = nginx.ask(Row("purge.test", UNTOLD, True), path)
    server = own.partition(b"\r\nServer: ")[2].partition(b"\r\n")[0].decode()
    assert own.endswith(NGINX_PAGE.replace("FOOTER", server).encode())
    row = Row("without.test", whose, False)
    page = NGINX_PAGE.replace("FOOTER", footer or server).encode()
    fields = {"Content-Type": "text/html"} | headers
    nginx.origin.set(row.host, f"/purge{path}", page, headers=fields, status=404)
    answer = nginx.ask(row, path)
    assert nginx.whose(row, path, answer) is whose, answer


def test_an_nginx_behind_an_nginx_has_the_same_page(nginx: Rig, path: str) -> None:
    """404 of the one that was asked and 404 of the one behind it: nothing tells them apart."""
    row = Row("files.test", UNTOLD, False)
    answer = nginx.ask(row, path)
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert nginx.whose(row, path, answer) is UNTOLD
