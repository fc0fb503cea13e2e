"""A connection in the fast lane: bytes in, requests and replies in order. The transport is a recorder."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from engine.errors import RequestError
from engine.intake.client import Addresses
from engine.intake.fast_lane import ClientConnection
from engine.intake.gate import PortGate
from engine.intake.pipeline import PENDING_MAX
from tests.rigs.admission_rig import AdmissionRig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.intake.auth import Token

BODY = b'{"targets":["http://a/"]}'
REQUEST = b"POST /v1/engine/task HTTP/1.1\r\nHost: e\r\nContent-Length: 25\r\n\r\n" + BODY
LAST = REQUEST.replace(b"Host: e", b"Host: e\r\nConnection: close")
OTHER = b"GET /healthz HTTP/1.1\r\nHost: e\r\n\r\n"


class Transport(asyncio.Transport):
    """Notes what is written, and what else it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.asked: list[str] = []

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def write_eof(self) -> None:
        self.asked.append("write_eof")

    def pause_reading(self) -> None:
        self.asked.append("pause_reading")

    def resume_reading(self) -> None:
        self.asked.append("resume_reading")

    def close(self) -> None:
        self.asked.append("close")

    def abort(self) -> None:
        self.asked.append("abort")

    def is_closing(self) -> bool:
        return "close" in self.asked or "abort" in self.asked

    @property
    def statuses(self) -> list[int]:
        return [int(text[1:4]) for text in b"".join(self.written).split(b"HTTP/1.1")[1:]]


class Aiohttp(asyncio.Protocol):
    """Stands where aiohttp's protocol would be, and notes what it is given."""

    def __init__(self) -> None:
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data


class Auth:
    """Lets everybody in, or nobody."""

    is_closed = False

    def __init__(self, token: Token) -> None:
        self.token = token

    def check(self, authorization: bytes, scope: str) -> Token:
        if self.is_closed:
            raise RequestError(401, "no")
        return self.token

    def name_of(self, authorization: bytes) -> str:
        return ""


class Bench:
    """One connection and all that it touches."""

    def __init__(self, **limits: Any) -> None:
        self.behind = AdmissionRig(live_max=1000)
        self.auth = Auth(self.behind.client.token)
        self.aiohttp = Aiohttp()
        settings: dict[str, Any] = {
            "addresses": Addresses(),
            "server": "s",
            "connections_max": 10,
            "body_max_bytes": 1000,
            "header_timeout_s": 10,
            "body_timeout_s": 30,
            "idle_timeout_s": 75,
        }
        gate: Any = (self.behind.admission, self.auth, lambda: self.aiohttp)
        self.gate = PortGate(*gate, **{**settings, **limits})
        self.transport = Transport()
        self.loop = asyncio.get_running_loop()
        self.connection = ClientConnection(self.gate, self.loop)
        self.connection.connection_made(self.transport)

    def receive(self, data: bytes) -> None:
        self.connection.data_received(data)

    @property
    def bodies(self) -> list[bytes]:
        """What the admission was given."""
        return [task.body for task in self.behind.saved]

    def answer(self, number: int, status: int = 202) -> None:
        """Have a task saved, or refused with another status than 202."""
        self.behind.commit(number, None if status == 202 else RequestError(status, "no"))


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a slice of work may be over before it has begun."""
    monkeypatch.setattr("engine.intake.pipeline.SLICE_S", 60.0)


@pytest.fixture
async def bench() -> Iterator[Bench]:  # type: ignore[misc]  # pytest-asyncio's async fixture
    made = Bench()
    yield made
    made.gate.close()


async def test_a_request_is_read_however_its_bytes_are_cut(bench: Bench) -> None:
    for place in range(len(REQUEST)):
        bench.receive(REQUEST[place : place + 1])
    assert bench.bodies == [BODY]
    bench.answer(0)
    assert bench.transport.statuses == [202]


async def test_replies_go_out_in_the_order_of_the_requests(bench: Bench) -> None:
    bench.receive(REQUEST * 3)
    bench.answer(2, 422)
    bench.answer(1, 409)
    assert bench.transport.written == []
    bench.answer(0, 202)
    assert bench.transport.statuses == [202, 409, 422]
    assert len(bench.transport.written) == 1, "what goes out together is one write"


async def test_more_requests_than_may_wait_are_read_when_half_are_answered(bench: Bench) -> None:
    bench.receive(REQUEST * (PENDING_MAX + 5))
    assert len(bench.bodies) == PENDING_MAX
    assert bench.transport.asked == ["pause_reading"]
    for number in range(PENDING_MAX):
        bench.answer(number)
    assert len(bench.bodies) == PENDING_MAX + 5
    assert bench.transport.asked == ["pause_reading", "resume_reading"]


async def test_another_request_hands_the_connection_over_when_the_answers_have_gone_out(bench: Bench) -> None:
    bench.receive(REQUEST + OTHER)
    assert bench.aiohttp.received == b""
    bench.answer(0)
    assert bench.aiohttp.received == OTHER
    bench.receive(REQUEST)
    assert bench.aiohttp.received == OTHER + REQUEST, "for good"
    assert len(bench.bodies) == 1


async def test_a_client_that_wants_the_connection_closed_gets_its_answer_first(bench: Bench) -> None:
    bench.receive(LAST + REQUEST)
    assert "close" not in bench.transport.asked
    bench.answer(0)
    assert b"Connection: close" in bench.transport.written[0]
    assert "close" in bench.transport.asked
    assert len(bench.bodies) == 1, "nothing is read after the last request"


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(bench: Bench) -> None:
    bench.receive(REQUEST.replace(b"Length: 25", b"Length: 1001"))
    assert bench.transport.statuses == [413]
    assert bench.transport.asked == ["write_eof", "resume_reading"], "what still comes is read and dropped"


async def test_a_client_without_a_token_is_refused_and_may_go_on(bench: Bench) -> None:
    bench.auth.is_closed = True
    bench.receive(REQUEST)
    bench.auth.is_closed = False
    bench.receive(REQUEST)
    assert bench.transport.statuses == [401]
    assert bench.bodies == [BODY]


async def test_one_connection_too_many_is_told_to_come_again() -> None:
    bench = Bench(connections_max=0)
    assert bench.transport.statuses == [503]
    assert b"Retry-After: 1" in bench.transport.written[0]
    bench.gate.close()


async def test_a_half_closed_client_gets_its_answers(bench: Bench) -> None:
    bench.receive(REQUEST)
    assert bench.connection.eof_received(), "the other half stays open"
    bench.answer(0)
    assert bench.transport.statuses == [202]
    assert "close" in bench.transport.asked


async def test_a_request_that_ends_early_is_told_so(bench: Bench) -> None:
    bench.receive(REQUEST[:-1])
    bench.connection.eof_received()
    assert bench.transport.statuses == [400]


async def test_a_client_that_reads_no_answers_is_not_read_from(bench: Bench) -> None:
    bench.connection.pause_writing()
    assert bench.transport.asked == ["pause_reading"]
    bench.connection.resume_writing()
    assert bench.transport.asked == ["pause_reading", "resume_reading"]


async def test_while_draining_each_answer_is_the_last(bench: Bench) -> None:
    bench.gate.drain()
    bench.receive(REQUEST)
    bench.answer(0)
    assert b"Connection: close" in bench.transport.written[0]
    assert "close" in bench.transport.asked


@pytest.mark.parametrize(
    ("data", "after_s", "status"),
    [(REQUEST[:20], 11, 408), (REQUEST[:-1], 31, 408), (REQUEST[:20], 9, 0), (REQUEST[:-1], 29, 0)],
)
async def test_what_takes_too_long_is_ended(bench: Bench, data: bytes, after_s: float, status: int) -> None:
    bench.receive(data)
    bench.connection.check_time(bench.loop.time() + after_s)
    assert bench.transport.statuses == ([status] if status else [])


async def test_a_head_that_came_too_slowly_for_aiohttp_is_answered_once(bench: Bench) -> None:
    """The client ends its side when it has read the 408; nothing can be written behind the end of ours."""
    bench.receive(OTHER[:-2])
    bench.connection.check_time(bench.loop.time() + 11)
    assert bench.connection.lane is not None
    bench.connection.lane._ended()
    assert bench.transport.statuses == [408]


async def test_an_idle_connection_is_closed_without_a_word(bench: Bench) -> None:
    bench.connection.check_time(bench.loop.time() + 70)
    assert "close" not in bench.transport.asked
    bench.connection.check_time(bench.loop.time() + 76)
    assert "close" in bench.transport.asked
    assert bench.transport.written == []


async def test_a_request_under_way_is_never_idle(bench: Bench) -> None:
    bench.receive(REQUEST)
    bench.connection.check_time(bench.loop.time() + 10_000)
    bench.connection.close_if_idle()
    assert not bench.transport.is_closing()
