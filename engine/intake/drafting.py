"""From bodies to tasks, in slices: a body that takes long does not keep other clients waiting.

Nearly all tasks are made at once. Those with many targets that are not in stored form, and the lines of
NDJSON, go on in later turns of the loop.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from engine.base.turns import SLICE_S, Turns
from engine.errors import EngineError, RequestError
from engine.intake.lines import LinesReply, split_lines
from engine.tasks.task import Task

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from engine.intake.client import Client
    from engine.intake.draft import Draft
    from engine.intake.replies import Reply
    from engine.intake.validate import Validator
    from engine.tasks.records import By

LINES_MAX: Final = 10_000  #: tasks in one NDJSON request


class OnDrafted(Protocol):
    """Takes a valid task."""

    def __call__(
        self, task: Task, body: bytes, client: Client, answer: Callable[[Reply], None], *, is_forwarded: bool
    ) -> None:
        """Take the task in, or refuse it: *answer* is called once."""


class Refuse(Protocol):
    """Counts an error; *by* is who is refused."""

    def __call__(self, exc: EngineError, by: By, *, with_hint: bool = True) -> Reply:
        """Return the reply of an error."""


class Drafting:
    """Makes tasks of bodies.

    Args:
        loop: the engine's.
        validator: checks them.
        on_drafted: given each task.
        refuse: makes the reply of an error.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        validator: Validator,
        *,
        on_drafted: OnDrafted,
        refuse: Refuse,
    ) -> None:
        self._validator = validator
        self._on_drafted = on_drafted
        self._refuse = refuse
        self._turns = Turns(loop)

    def submit(
        self, body: bytes, client: Client, answer: Callable[[Reply], None], *, is_forwarded: bool
    ) -> None:
        """See `Admission.submit`."""
        try:
            self._take(body, client, answer, is_forwarded=is_forwarded)
        except EngineError as exc:
            answer(self._refuse(exc, client.by))

    def submit_lines(self, body: bytes, client: Client, answer: Callable[[Reply], None]) -> None:
        """See `Admission.submit_lines`."""
        began = time.monotonic()
        lines = split_lines(body, LINES_MAX)
        if not 1 <= len(lines) <= LINES_MAX:
            got = "more" if lines else "none"
            detail = f"body: takes 1-{LINES_MAX} lines, a task each, got {got}"
            answer(self._refuse(RequestError(422, detail), client.by))
            return
        replies = LinesReply([number for number, _ in lines], answer)
        work = partial(self._take_lines, iter(lines), replies, client)
        if time.monotonic() - began > SLICE_S / 2 or not work():
            self._turns.add(work)

    def _take_lines(self, lines: Iterator[tuple[int, bytes]], replies: LinesReply, client: Client) -> bool:
        """Take the next lines of an NDJSON request in, for one slice; return whether that was all.

        One hint is given for the whole request: it costs more than to take a task in.
        """
        until = time.monotonic() + SLICE_S
        for _, line in lines:
            answer = replies.next()
            try:
                self._take(line, client, answer, is_forwarded=False)
            except EngineError as exc:
                answer(self._refuse(exc, client.by, with_hint=replies.may_hint(exc)))
            if time.monotonic() > until:
                return False
        return True

    def _take(
        self, body: bytes, client: Client, answer: Callable[[Reply], None], *, is_forwarded: bool
    ) -> None:
        """Take one task in, now or a slice at a time.

        Raises:
            EngineError: it is refused, and *answer* has not been called.
        """
        if not is_forwarded:
            client.token.take()
        is_again = client.again is not None
        draft = self._validator.begin(body, client.token.hosts.allows, is_again=is_again)
        if isinstance(draft, Task):
            self._on_drafted(draft, body, client, answer, is_forwarded=is_forwarded)
        elif draft.work(SLICE_S):
            self._on_drafted(draft.task(), body, client, answer, is_forwarded=is_forwarded)
        else:
            self._turns.add(partial(self._go_on, draft, body, client, answer, is_forwarded=is_forwarded))

    def _go_on(
        self,
        draft: Draft,
        body: bytes,
        client: Client,
        answer: Callable[[Reply], None],
        *,
        is_forwarded: bool,
    ) -> bool:
        """Work one more slice of a long list of targets; return whether that was all."""
        try:
            if not draft.work(SLICE_S):
                return False
            self._on_drafted(draft.task(), body, client, answer, is_forwarded=is_forwarded)
        except EngineError as exc:
            answer(self._refuse(exc, client.by))
        return True
