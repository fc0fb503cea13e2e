"""The probe of a node: a purge of a URL that nobody has, made as its driver makes purges.

It is the first request on a connection of its own: a pipe behind a cache answers the next ones by itself. An
answer shows that purges work, not only that a port is open, and whose answer it is. One of 5xx, 401 or 403
shows that they do not: a node that comes back sick, or locked, keeps its delay queue. A node that bears its
mark must repeat the probe's nonce with it, so that no stored answer counts.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from loguru import logger

from engine.base.backoff import backoff_s
from engine.errors import WireError
from engine.nodes import drivers
from engine.nodes.address import addresses_of
from engine.nodes.answer import MARK_NAME, Sign
from engine.nodes.drivers.shape import NONCE
from engine.nodes.evidence import Whose
from engine.nodes.health import NodeState
from engine.nodes.wire import AnswerReader
from engine.tasks.words import Operation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.config.tables import NodeConfig
    from engine.nodes.address import Address
    from engine.nodes.answer import Answer
    from engine.nodes.judge import Judge

_PROBE_BASE_S: Final = 0.2
_PROBE_MAX_S: Final = 5.0
_NO_RETURN: Final = frozenset({401, 403})
_SERVER_ERRORS: Final = range(500, 600)
_SEEN_MAX: Final = 16384  #: bytes of an answer that are told
_KEEP_TEXT: Final = Sign(b"\n\r\n\r")  #: no head has that, so that each answer brings its text


class Problem(NamedTuple):
    """Why a node is not back."""

    reason: str
    state: NodeState  #: down, sick (it could be reached) or unproven
    is_untold: bool = False  #: nothing shows whose the answer is, nor that it is somebody else's
    is_hidden: bool = False  #: answers to purges look as if they were the node's own all the same


OnExchange: TypeAlias = "Callable[[str, bytes, Answer | Problem, float], None]"
"""Told a request, what came, what was read of it, and when it was sent (UNIX time)."""


class Probe:
    """Asks a node, one request at a time: once, or until it gives an answer that counts, with growing pauses.

    Args:
        config: the node's table.
        address: where it listens.
        judge: tells whose its answers are.
        timeout_s: seconds for one request, connecting included; at most 5 are used.
        on_problem: told what was wrong after each request without an answer that counts.
        on_answer: called once a request had one, after `start`; the probe is over then.
    """

    def __init__(
        self,
        config: NodeConfig,
        address: Address,
        judge: Judge,
        *,
        timeout_s: float,
        on_problem: Callable[[Problem], None],
        on_answer: Callable[[], None],
    ) -> None:
        self._config = config
        self._address = address
        self._judge = judge
        self._timeout_s = min(timeout_s, _PROBE_MAX_S)
        self._on_problem = on_problem
        self._on_answer = on_answer
        self._loop = asyncio.get_running_loop()
        self._running: asyncio.Task[None] | None = None
        self.on_exchange: OnExchange = unseen
        self.question: Callable[[], Awaitable[Problem | None]] = self._ask  #: what is asked; see `ask`

    @property
    def is_under_way(self) -> bool:
        """Whether it asks, or waits to ask."""
        return self._running is not None and not self._running.done()

    def start(self, *, attempt: int = 0) -> None:
        """Ask until the node answers, unless that is under way; at once, or as after *attempt* attempts."""
        if not self.is_under_way:
            self._running = self._loop.create_task(self._ask_until_answered(attempt))

    def close(self) -> None:
        """Stop asking."""
        if self._running is not None:
            self._running.cancel()
            self._running = None

    async def _ask_until_answered(self, attempt: int) -> None:
        if attempt:
            await _pause(attempt)
        while (problem := await self.ask()) is not None:
            self._on_problem(problem)
            await _pause(attempt)
            attempt += 1
        self._on_answer()

    async def ask(self) -> Problem | None:
        """Return None when the node answers as one whose purges count, otherwise what is wrong."""
        try:
            problem = await self.question()
        except Exception as exc:  # noqa: BLE001 - without a next question the node would be down for ever
            logger.opt(exception=exc).error("the probe of {} failed", self._config.name)
            return Problem(f"the probe of {self._config.url} failed: {exc!r}", NodeState.DOWN)
        if problem is None or problem.state is NodeState.UNPROVEN:
            self._judge.is_overruled = problem is not None and problem.is_hidden
        return problem

    async def _ask(self) -> Problem | None:
        nonce = secrets.token_hex(8)
        answer = await self._answer_to(drivers.probe_text(self._config, nonce))
        problem = answer if isinstance(answer, Problem) else self._problem_of(answer, nonce)
        if problem is None and self._judge.rests_on == "shape":
            return await self._unless_piped()
        return problem

    async def _unless_piped(self) -> Problem | None:
        """Ask once more, where only the end of a connection shows that a server behind the node answers."""
        text = drivers.end_text(self._config, drivers.PROBE_TARGET)
        answer = await self._answer_to(text) if text else None
        if isinstance(answer, Problem):
            return answer
        if answer is not None and drivers.is_piped(answer.text):
            reason = self._judge.reason(Whose.FORWARDED, answer.status)
            return Problem(reason, NodeState.UNPROVEN, is_hidden=True)
        return None

    async def _answer_to(self, text: str) -> Answer | Problem:
        """Send one request on a connection of its own."""
        data = bytearray()
        began_at = time.time()
        answer = await self._exchange(text, data)
        self.on_exchange(text, bytes(data), answer, began_at)
        return answer

    async def _exchange(self, text: str, data: bytearray) -> Answer | Problem:
        """Return what is read, and have its bytes in *data*."""
        url = self._config.url
        host, port, context, name = self._address
        is_open = False
        try:
            async with asyncio.timeout(self._timeout_s):
                await addresses_of(self._address)
                reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=name)
                is_open = True
                try:
                    writer.write(text.encode("ascii"))
                    return await _read_answer(reader, data)
                finally:
                    writer.transport.abort()
        except TimeoutError:
            state = NodeState.SICK if is_open else NodeState.DOWN
            return Problem(f"{url} gave no answer within {self._timeout_s:g} s", state)
        except (OSError, ValueError, WireError) as exc:
            return Problem(f"{url} cannot be reached: {exc}", NodeState.DOWN)

    def _problem_of(self, answer: Answer, nonce: str) -> Problem | None:
        judge, status = self._judge, answer.status
        if status in _SERVER_ERRORS:
            return Problem(f"{self._config.url} answered {status} to a probe", NodeState.SICK)
        whose = Whose.OWN
        if judge.sign is not None:
            whose = judge.whose(Operation.PURGE_URL, drivers.PROBE_TARGET, answer)
        judge.needs_pages = whose is Whose.UNTOLD
        if whose is Whose.FORWARDED:
            return Problem(judge.reason(whose, status), NodeState.UNPROVEN)
        if status in _NO_RETURN:
            return Problem(f"{self._config.url} answered {status} to a probe", NodeState.DOWN)
        if whose is Whose.UNTOLD and not judge.is_any_proven:
            return Problem(judge.reason(whose, status), NodeState.UNPROVEN, is_untold=True)
        text = answer.text.lower()
        if judge.sign is not None and MARK_NAME in text:
            if f"\r\n{NONCE}: {nonce}\r\n".lower().encode() not in text:
                return Problem(judge.reason_without_nonce(), NodeState.UNPROVEN, is_hidden=True)
            judge.has_mark()
        return None


class Checks:
    """Has a probe ask once, now and again and again, while it does not ask anyway.

    Args:
        probe: of the node.
        interval_s: between two questions.
        on_problem: told what was wrong with an answer.
    """

    def __init__(self, probe: Probe, interval_s: float, on_problem: Callable[[Problem], None]) -> None:
        self._probe = probe
        self._interval_s = interval_s
        self._on_problem = on_problem
        self._loop = asyncio.get_running_loop()
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        if self._running is None:
            self._running = self._loop.create_task(self._ask_for_ever())

    def close(self) -> None:
        """Stop asking."""
        if self._running is not None:
            self._running.cancel()

    async def _ask_for_ever(self) -> None:
        while True:
            if not self._probe.is_under_way:
                problem = await self._probe.ask()
                if problem is not None and not self._probe.is_under_way:
                    self._on_problem(problem)
            await asyncio.sleep(self._interval_s)


async def _pause(attempt: int) -> None:
    await asyncio.sleep(backoff_s(attempt, first_s=_PROBE_BASE_S, max_s=_PROBE_MAX_S))


def unseen(_text: str, _data: bytes, _answer: Answer | Problem, _began_at: float) -> None:
    """Nobody asks."""


async def _read_answer(reader: asyncio.StreamReader, data: bytearray) -> Answer:
    answers: list[Answer] = []
    parser = AnswerReader(_KEEP_TEXT)
    unread = bytearray()
    while not answers:
        chunk = await reader.read(16384)
        if not chunk:
            parser.feed_eof(answers)
            if not answers:
                raise WireError("closed the connection without an answer")
            break
        unread += chunk
        data += chunk[: _SEEN_MAX - len(data)]
        del unread[: parser.feed(unread, len(unread), answers)]
    return answers[0]
