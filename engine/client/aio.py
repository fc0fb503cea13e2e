"""The client for asyncio programs: `AsyncClient`. What it does is told in docs/client.md."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Self

import aiohttp
from yarl import URL

from engine.client import answers, bodies, operations, sending
from engine.client.address import addresses_of, token_of
from engine.client.attempts import Answer, Attempts, Call, Patience
from engine.client.client import CONNECT_TIMEOUT_S, READ_TIMEOUT_S, TOTAL_TIMEOUT_S, outcomes_of, spooled
from engine.client.connection import Timeouts
from engine.client.engines import Engines
from engine.client.errors import ClientError, OutboxError, RefusedError, UnreachableError
from engine.client.http import HttpClient, headers_of
from engine.client.outbox import Outbox
from engine.client.polls import Polls
from engine.client.tls import context_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, TypeVar, Unpack

    from engine.client.address import Address
    from engine.client.bodies import TaskOptions
    from engine.client.operations import Operation

    T = TypeVar("T")

CONNECTIONS_MAX = 100  #: requests at once

_SAFE_TO_REPEAT = (
    aiohttp.ServerDisconnectedError,
    aiohttp.ClientPayloadError,
    ConnectionResetError,
    BrokenPipeError,
)


class AsyncClient:
    """Hands tasks to the first of several engines that answers; any number of requests at once.

    Arguments and methods are those of `engine.client.client.Client`, where each is explained.
    """

    def __init__(
        self,
        engines: str | Sequence[str] | None = None,
        *,
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        tls: ssl.SSLContext | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        read_timeout_s: float = READ_TIMEOUT_S,
        total_timeout_s: float = TOTAL_TIMEOUT_S,
        outbox: Outbox | str | os.PathLike[str] | None = None,
        notice: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self.outbox = outbox if outbox is None or isinstance(outbox, Outbox) else Outbox(outbox)
        addresses = addresses_of(engines)
        self._engines = Engines(addresses)
        self._url = self._engines.url
        self._token = token_of(token, file=token_file)
        self._timeouts = Timeouts(connect_timeout_s, read_timeout_s)
        self._patience = Patience(total_timeout_s)
        needs_tls = tls is None and (ca_file is not None or any(one.is_tls for one in addresses))
        self._tls = context_of(ca_file) if needs_tls else tls
        self._notice = notice
        self._session: aiohttp.ClientSession | None = None
        self._sending = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<AsyncClient {self._url}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def purge(
        self, targets: Sequence[object] | str, **options: Unpack[TaskOptions]
    ) -> answers.Submitted:
        """As `Client.purge`."""
        return await self.submit(bodies.task_of("purge", targets, options))

    async def prefetch(
        self, targets: Sequence[object] | str, **options: Unpack[TaskOptions]
    ) -> answers.Submitted:
        """As `Client.prefetch`."""
        return await self.submit(bodies.task_of("prefetch", targets, options))

    async def submit(self, task: Mapping[str, Any]) -> answers.Submitted:
        """As `Client.submit`. A caller that is cancelled may have handed the task in."""
        task_id, body = bodies.body_of(task)
        try:
            document = await self._run(operations.submit(body))
        except (UnreachableError, RefusedError) as exc:
            return await asyncio.shield(asyncio.to_thread(spooled, self.outbox, task_id, body, exc))
        await self._send_some()
        return answers.read(document, answers.Submitted, url=self._url)

    async def submit_all(self, tasks: Iterable[Mapping[str, Any]]) -> list[answers.Submitted | ClientError]:
        """As `Client.submit_all`."""
        outcomes: list[answers.Submitted | ClientError] = []
        for part in bodies.parts_of([bodies.body_of(task) for task in tasks]):
            lines: Sequence[Mapping[str, Any] | UnreachableError | RefusedError]
            try:
                lines = await self._run(operations.submit_lines([body for _, body in part]))
            except (UnreachableError, RefusedError) as exc:
                lines = [exc for _ in part]
            outcomes += await asyncio.shield(
                asyncio.to_thread(outcomes_of, self.outbox, part, lines, url=self._url)
            )
        if any(isinstance(outcome, answers.Submitted) and not outcome.is_spooled for outcome in outcomes):
            await self._send_some()
        return outcomes

    async def wait(self, task_id: str, *, timeout_s: float = 60.0) -> answers.Task:
        """As `Client.wait`."""
        polls = Polls(task_id, timeout_s)
        while True:
            document = await self._run(operations.task(task_id), Patience(polls.look_s()))
            if polls.is_over(document):
                return answers.read(document, answers.Task, url=self._url)
            await asyncio.sleep(polls.pause_s())

    async def status(self, task_id: str) -> answers.Task:
        """As `Client.status`."""
        return answers.read(await self._run(operations.task(task_id)), answers.Task, url=self._url)

    async def cancel(self, task_id: str) -> None:
        """As `Client.cancel`."""
        await self._run(operations.cancel(task_id))

    async def why(self, url: str) -> answers.Why:
        """As `Client.why`."""
        return answers.read(await self._run(operations.why(url)), answers.Why, url=self._url)

    async def history(self, target: str = "", *, limit: int = 50, **asked: object) -> answers.History:
        """As `Client.history`."""
        query = {**asked, **({"target": target} if target else {})}
        document = await self._run(operations.history(query, limit=limit))
        return answers.read(document, answers.History, url=self._url)

    async def send_outbox(self) -> sending.Outcome:
        """As `Client.send_outbox`; a thread does it, with connections of its own."""
        if self.outbox is None:
            raise OutboxError("this client has no outbox: name its folder as `outbox`")
        return await asyncio.to_thread(self._send_by_thread, self.outbox)

    def _send_by_thread(self, outbox: Outbox) -> sending.Outcome:
        with self._blocking() as http:
            patience = self._patience._replace(busy_rounds=1)
            return sending.send(
                outbox, lambda body: http.run(operations.submit(body), patience), self._notice
            )

    async def _send_some(self) -> None:
        outbox = self.outbox
        if outbox is None or self._sending.locked() or outbox.is_empty():
            return
        async with self._sending:
            await asyncio.to_thread(self._send_some_by_thread, outbox)

    def _send_some_by_thread(self, outbox: Outbox) -> None:
        with self._blocking() as http:
            sending.send_some(outbox, http, self._notice)

    def _blocking(self) -> HttpClient:
        return HttpClient(
            self._engines.addresses,
            token=self._token,
            timeouts=self._timeouts,
            patience=self._patience,
            tls=self._tls,
            notice=self._notice,
        )

    async def _run(self, operation: Operation[T], patience: Patience | None = None) -> T:
        """Run an operation, as `HttpClient.run` does."""
        try:
            call = next(operation)
            while True:
                call = operation.send(await self._answer(call, patience or self._patience))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    async def _answer(self, call: Call, patience: Patience) -> Answer:
        attempts = Attempts(self._engines, patience, notice=self._notice)
        while True:
            place, pause_s, left_s = attempts.next()
            if pause_s:
                await asyncio.sleep(pause_s)
            try:
                answer = await self._exchange(place, call, left_s)
            except UnreachableError as exc:
                attempts.lost(place, exc)
            else:
                if attempts.accept(place, answer):
                    return answer

    async def _exchange(self, place: int, call: Call, left_s: float) -> Answer:
        """Send one request to one engine, twice when a connection ends early.

        Raises:
            UnreachableError: nothing usable came back.
        """
        address = self._engines.addresses[place]
        try:
            try:
                return await self._attempt(address, call, left_s)
            except _SAFE_TO_REPEAT:  # such as an idle connection that a reload has closed
                return await self._attempt(address, call, left_s)
        except (aiohttp.ClientError, OSError) as exc:
            was_sent = not isinstance(exc, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
            raise UnreachableError(address.url, self._explain(exc, left_s), sent=was_sent) from exc

    async def _attempt(self, address: Address, call: Call, left_s: float) -> Answer:
        url = f"{address.url.rstrip('/')}{call.path}"
        headers = {} if call.body is None else {"Content-Type": call.content_type}
        timeout = aiohttp.ClientTimeout(
            total=left_s, sock_connect=self._timeouts.connect_s, sock_read=self._timeouts.read_s
        )
        async with self._opened().request(
            call.method,
            URL(url, encoded=True),
            data=call.body,
            headers=headers,
            timeout=timeout,
            allow_redirects=False,
            ssl=self._tls if address.is_tls and self._tls is not None else True,
        ) as response:
            return Answer(address.url, response.status, response.headers, await response.read())

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=headers_of(self._token),
                connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX, family=socket.AF_UNSPEC),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session

    def _explain(self, exc: Exception, left_s: float) -> str:
        match exc:
            case aiohttp.ConnectionTimeoutError():
                return f"no connection within {min(self._timeouts.connect_s, left_s):.3g} s"
            case TimeoutError():
                return f"no answer within {min(self._timeouts.read_s, left_s):.3g} s"
            case aiohttp.ClientConnectorError(os_error=ConnectionError(errno=int(number))):
                return os.strerror(number)  # asyncio's own text names the address again
            case aiohttp.ClientConnectorError():
                return exc.os_error.strerror or str(exc.os_error)
            case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError() | ConnectionResetError():
                return "the connection closed before the whole answer came"
            case aiohttp.ClientResponseError():
                return "what answers there does not speak HTTP"
            case _:
                return str(exc) or type(exc).__name__
