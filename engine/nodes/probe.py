"""The probe of a node that is down: a purge of a URL that nobody has, made as its driver makes purges.

An answer shows that purges work again, not only that a port is open. One of 5xx, 401 or 403 shows that they
do not: a node that comes back sick, or locked, keeps its delay queue.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from engine.base.backoff import backoff_s
from engine.errors import WireError
from engine.nodes import drivers
from engine.nodes.wire import AnswerReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.config.tables import NodeConfig
    from engine.nodes.address import Address
    from engine.nodes.answer import Answer

_PROBE_BASE_S: Final = 0.2
_PROBE_MAX_S: Final = 5.0
_NO_RETURN: Final = frozenset({401, 403})
_SERVER_ERRORS: Final = range(500, 600)


class Problem(NamedTuple):
    """Why a node is not back."""

    reason: str
    is_sick: bool  #: it could be reached


class OnProblem(Protocol):
    """Told of each `Problem`."""

    def __call__(self, reason: str, *, is_sick: bool) -> None:
        """Take a problem."""


class Probe:
    """Asks a node until it gives an answer that counts, one request at a time, with growing pauses.

    Args:
        config: the node's table.
        address: where it listens.
        timeout_s: seconds for one request, connecting included; at most 5 are used.
        on_problem: told what was wrong after each request without such an answer.
        on_answer: called once a request had one; the probe is over then.
    """

    def __init__(
        self,
        config: NodeConfig,
        address: Address,
        *,
        timeout_s: float,
        on_problem: OnProblem,
        on_answer: Callable[[], None],
    ) -> None:
        self._url = config.url
        self._request = drivers.probe_text(config).encode("ascii")
        self._address = address
        self._timeout_s = min(timeout_s, _PROBE_MAX_S)
        self._on_problem = on_problem
        self._on_answer = on_answer
        self._loop = asyncio.get_running_loop()
        self._running: asyncio.Task[None] | None = None

    def start(self, *, attempt: int = 0) -> None:
        """Ask until the node answers, unless that is under way; at once, or as after *attempt* attempts."""
        if self._running is None or self._running.done():
            self._running = self._loop.create_task(self._ask_until_answered(attempt))

    def close(self) -> None:
        """Stop asking."""
        if self._running is not None:
            self._running.cancel()

    async def _ask_until_answered(self, attempt: int) -> None:
        if attempt:
            await _pause(attempt)
        while (problem := await self._ask()) is not None:
            self._on_problem(problem.reason, is_sick=problem.is_sick)
            await _pause(attempt)
            attempt += 1
        self._on_answer()

    async def _ask(self) -> Problem | None:
        """Return None when the node answers as one that works, otherwise what is wrong."""
        host, port, context = self._address
        is_open = False
        try:
            async with asyncio.timeout(self._timeout_s):
                reader, writer = await asyncio.open_connection(host, port, ssl=context)
                is_open = True
                try:
                    writer.write(self._request)
                    status = (await _read_answer(reader)).status
                finally:
                    writer.transport.abort()
        except TimeoutError:
            return Problem(f"{self._url} gave no answer within {self._timeout_s:g} s", is_open)
        except (OSError, ValueError, WireError) as exc:
            return Problem(f"{self._url} cannot be reached: {exc}", is_sick=False)
        if status in _NO_RETURN or status in _SERVER_ERRORS:
            return Problem(f"{self._url} answered {status} to a probe", status in _SERVER_ERRORS)
        return None


async def _pause(attempt: int) -> None:
    await asyncio.sleep(backoff_s(attempt, first_s=_PROBE_BASE_S, max_s=_PROBE_MAX_S))


async def _read_answer(reader: asyncio.StreamReader) -> Answer:
    answers: list[Answer] = []
    parser = AnswerReader()
    data = bytearray()
    while not answers:
        chunk = await reader.read(16384)
        if not chunk:
            parser.feed_eof(answers)
            if not answers:
                raise WireError("closed the connection without an answer")
            break
        data += chunk
        del data[: parser.feed(data, len(data), answers)]
    return answers[0]
