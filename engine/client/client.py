"""The client for programs that block: `Client`. What it does is told in docs/client.md."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from engine.client import answers, bodies, operations, sending
from engine.client.address import addresses_of, token_of
from engine.client.attempts import Patience
from engine.client.connection import Timeouts
from engine.client.errors import ClientError, OutboxError, RefusedError, UnreachableError
from engine.client.http import HttpClient
from engine.client.outbox import Outbox
from engine.client.polls import Polls
from engine.client.tls import context_of

if TYPE_CHECKING:
    import os
    import ssl
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, Unpack

    from engine.client.bodies import TaskOptions

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 10.0
TOTAL_TIMEOUT_S = 30.0


class Client:
    """Hands tasks to the first of several engines that answers. Of one thread at a time.

    Args:
        engines: addresses, ``http(s)://HOST[:PORT][/PREFIX]``; none: those of ``PURGELINE_URL``.
        token: bearer token; None: that of *token_file*, ``PURGELINE_TOKEN`` or ``PURGELINE_TOKEN_FILE``.
        token_file: file with the token.
        ca_file: certificates that engines are trusted by, in place of the machine's.
        tls: what https is spoken with; takes the place of *ca_file*.
        connect_timeout_s: for one connect.
        read_timeout_s: for each wait for bytes of an answer.
        total_timeout_s: for a request with all of its attempts and pauses.
        outbox: keeps tasks that no engine takes: an `Outbox`, or its folder. None: they are errors.
        notice: is told about each wait for engines, and what came of the outbox.

    Raises:
        ValueError: an address or the token cannot be used; the text says why.
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
        self._http = HttpClient(
            addresses_of(engines),
            token=token_of(token, file=token_file),
            timeouts=Timeouts(connect_timeout_s, read_timeout_s),
            patience=Patience(total_timeout_s),
            tls=context_of(ca_file) if tls is None and ca_file is not None else tls,
            notice=notice,
        )
        self._url = self._http.engines.url
        self._notice = notice

    def __repr__(self) -> str:
        return f"<Client {self._url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def purge(self, targets: Sequence[object] | str, **options: Unpack[TaskOptions]) -> answers.Submitted:
        """Hand in a purge of up to 10,000 targets; errors as `submit`."""
        return self.submit(bodies.task_of("purge", targets, options))

    def prefetch(self, targets: Sequence[object] | str, **options: Unpack[TaskOptions]) -> answers.Submitted:
        """Hand in a prefetch of up to 10,000 URLs; errors as `submit`."""
        return self.submit(bodies.task_of("prefetch", targets, options))

    def submit(self, task: Mapping[str, Any]) -> answers.Submitted:
        """Hand in a task, as docs/http.md has its body; without an ``id`` it gets one.

        Raises:
            ValueError: no request can carry it.
            RefusedError: the engine refuses it.
            UnreachableError: no engine answered, and there is no outbox.
            OutboxError: no engine answered, and the outbox could not keep it: it is stored nowhere.
        """
        task_id, body = bodies.body_of(task)
        try:
            document = self._http.run(operations.submit(body))
        except (UnreachableError, RefusedError) as exc:
            return spooled(self.outbox, task_id, body, exc)
        self._send_some()
        return answers.read(document, answers.Submitted, url=self._url)

    def submit_all(self, tasks: Iterable[Mapping[str, Any]]) -> list[answers.Submitted | ClientError]:
        """Hand in many tasks, a thousand a request; return what came of each, in their order.

        Raises:
            ValueError: one of them can be carried by no request; none is handed in.
        """
        outcomes: list[answers.Submitted | ClientError] = []
        for part in bodies.parts_of([bodies.body_of(task) for task in tasks]):
            lines: Sequence[Mapping[str, Any] | UnreachableError | RefusedError]
            try:
                lines = self._http.run(operations.submit_lines([body for _, body in part]))
            except (UnreachableError, RefusedError) as exc:
                lines = [exc for _ in part]
            outcomes += outcomes_of(self.outbox, part, lines, url=self._url)
        if any(isinstance(outcome, answers.Submitted) and not outcome.is_spooled for outcome in outcomes):
            self._send_some()
        return outcomes

    def wait(self, task_id: str, *, timeout_s: float = 60.0) -> answers.Task:
        """Return a task when it is done, failed, cancelled or partial.

        Raises:
            StillRunningError: it is none of these after *timeout_s*.
            RefusedError: the engine refuses to show it; 404: no engine has it, as when it is in the outbox.
            UnreachableError: no engine answers any more.
        """
        polls = Polls(task_id, timeout_s)
        while True:
            document = self._http.run(operations.task(task_id), Patience(polls.look_s()))
            if polls.is_over(document):
                return answers.read(document, answers.Task, url=self._url)
            time.sleep(polls.pause_s())

    def status(self, task_id: str) -> answers.Task:
        """Return a task as it is now; errors as `wait`."""
        return answers.read(self._http.run(operations.task(task_id)), answers.Task, url=self._url)

    def cancel(self, task_id: str) -> None:
        """Have nothing more of a task sent. RefusedError: 404, there is no such task; 409, it has settled."""
        self._http.run(operations.cancel(task_id))

    def why(self, url: str) -> answers.Why:
        """Return what every node serves of a URL, and why."""
        return answers.read(self._http.run(operations.why(url)), answers.Why, url=self._url)

    def history(self, target: str = "", *, limit: int = 50, **asked: object) -> answers.History:
        """Return up to *limit* tasks, newest first: those that cover *target*, if one is named.

        Args:
            target: a URL, ``HOST/KEY`` or a host.
            limit: over as many pages as that takes.
            asked: ``host``, ``node``, ``by``, ``action``, ``state``, ``since``, ``until``.
        """
        query = {**asked, **({"target": target} if target else {})}
        document = self._http.run(operations.history(query, limit=limit))
        return answers.read(document, answers.History, url=self._url)

    def send_outbox(self) -> sending.Outcome:
        """Send what the outbox has, oldest first, and return what came of it.

        Raises:
            OutboxError: there is no outbox, or its folder cannot be read.
        """
        if self.outbox is None:
            raise OutboxError("this client has no outbox: name its folder as `outbox`")
        patience = self._http.patience._replace(busy_rounds=1)  # what is busy now is sent by the next run
        return sending.send(
            self.outbox, lambda body: self._http.run(operations.submit(body), patience), self._notice
        )

    def _send_some(self) -> None:
        """Send some of what the outbox has, now that an engine answers."""
        if self.outbox is not None and not self.outbox.is_empty():
            sending.send_some(self.outbox, self._http, self._notice)


def spooled(
    outbox: Outbox | None, task_id: str, body: bytes, exc: UnreachableError | RefusedError
) -> answers.Submitted:
    """Keep a task that no engine took, or raise why not."""
    if outbox is None or not (isinstance(exc, UnreachableError) or exc.is_busy):
        raise exc
    outbox.put(task_id, body)
    return answers.Submitted(task_id=task_id, state=answers.SPOOLED)


def outcomes_of(
    outbox: Outbox | None,
    part: Sequence[tuple[str, bytes]],
    lines: Sequence[Mapping[str, Any] | UnreachableError | RefusedError],
    *,
    url: str,
) -> list[answers.Submitted | ClientError]:
    """Return what came of each task of a request; those that no engine took are kept."""
    outcomes: list[answers.Submitted | ClientError] = []
    for (task_id, body), line in zip(part, lines, strict=True):
        try:
            if isinstance(line, UnreachableError | RefusedError):
                outcomes.append(spooled(outbox, task_id, body, line))
            else:
                outcomes.append(answers.read(line, answers.Submitted, url=url))
        except ClientError as exc:
            outcomes.append(exc)
    return outcomes
