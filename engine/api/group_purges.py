"""Reports of cache groups that an origin has invalidated become purges, so many a second at most.

A report is answered when a task that purges its groups is saved, never before. The first one of a host makes
a task at once. What is reported within the next `PAUSE_S` waits for the end of that pause, and becomes one
task together: an origin that invalidates with every POST costs a task a second, and the last report is never
left out, because what it asks for is sent after it.

A report may be told twice: by an edge and its parent, which both saw the answer, or by a program that reads
its log once more. An ``id`` that was seen within `_REMEMBERED_MAX` reports is answered as the first was.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import msgspec

from engine.errors import BacklogFullError
from engine.intake.problems import reply_of
from engine.intake.task_body import TARGETS_MAX

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from engine.intake.admission import Admission
    from engine.intake.client import Client
    from engine.intake.replies import Reply

PAUSE_S: Final = 1.0  #: between two tasks of one host and token
_HOSTS_MAX: Final = 10_000  #: with a pause
_REMEMBERED_MAX: Final = 10_000  #: ids of reports
_ACCEPTED: Final = 202
_encode = msgspec.json.encode
_Seen: TypeAlias = tuple[str, str, str, int]  # token, host, id of a report; what it invalidates


class Invalidated(NamedTuple):
    """Groups that are not fresh any more."""

    host: str  #: whose objects
    keys: Sequence[str]  #: see `cache_groups.key_of`
    id: str = ""  #: of the report; empty: it has none


class GroupPurges:
    """Makes the tasks.

    Args:
        admission: takes them.
        loop: the engine's.
    """

    def __init__(self, admission: Admission, loop: asyncio.AbstractEventLoop) -> None:
        self._admission = admission
        self._loop = loop
        self._hosts: dict[tuple[str, str], _Pending] = {}
        self._seen: OrderedDict[_Seen, _Answers] = OrderedDict()

    def __repr__(self) -> str:
        return f"<GroupPurges [{len(self._hosts)} hosts pause]>"

    def purge(self, report: Invalidated, client: Client, answer: Callable[[Reply], None]) -> bool:
        """Purge groups at every node; return whether the report had been told before.

        Args:
            report: of an origin that the client's token may purge.
            client: who reports.
            answer: called once, with the intake's reply to the task that does it.
        """
        if not report.id:
            self._take(report, client, answer)
            return False
        key = (client.token.name, report.host, report.id, hash(tuple(report.keys)))
        answers = self._seen.get(key)
        if answers is not None:
            answers.add(answer)
            return True
        self._seen[key] = answers = _Answers(answer)
        if len(self._seen) > _REMEMBERED_MAX:
            self._seen.popitem(last=False)
        self._take(report, client, partial(self._answered, key, answers))
        return False

    def _answered(self, key: _Seen, answers: _Answers, reply: Reply) -> None:
        if reply.status != _ACCEPTED and self._seen.get(key) is answers:
            del self._seen[key]  # nothing is saved: the same again is to be tried again
        answers.end(reply)

    def _take(self, report: Invalidated, client: Client, answer: Callable[[Reply], None]) -> None:
        key = (client.token.name, report.host)
        pending = self._hosts.get(key)
        if pending is None:
            if len(self._hosts) >= _HOSTS_MAX:
                answer(reply_of(BacklogFullError("group reports", retry_after_s=PAUSE_S)))
                return
            pending = self._hosts[key] = _Pending(report.host, client)
            pending.add(report.keys, answer)
            self._send(key, pending)
        elif len(pending.keys) + len(report.keys) > TARGETS_MAX:
            answer(reply_of(BacklogFullError("group reports", retry_after_s=PAUSE_S)))
        else:
            pending.client = client
            pending.add(report.keys, answer)

    def _send(self, key: tuple[str, str], pending: _Pending) -> None:
        """Hand in what is pending, and pause."""
        self._loop.call_later(PAUSE_S, self._go_on, key, pending)
        body, answers = pending.take()
        self._admission.submit(body, pending.client, answers.end)

    def _go_on(self, key: tuple[str, str], pending: _Pending) -> None:
        if pending.keys:
            self._send(key, pending)
        else:
            del self._hosts[key]


class _Pending:
    """What is reported of one host within a pause."""

    __slots__ = ("_answers", "_host", "client", "keys")

    def __init__(self, host: str, client: Client) -> None:
        self.keys: dict[str, None] = {}  #: each once
        self.client = client  #: of the last report
        self._host = host
        self._answers = _Answers()

    def add(self, keys: Sequence[str], answer: Callable[[Reply], None]) -> None:
        """Add the groups of a report."""
        self.keys.update(dict.fromkeys(keys))
        self._answers.add(answer)

    def take(self) -> tuple[bytes, _Answers]:
        """Return the body of a task for all of it, and who waits for its answer; begin anew."""
        targets = [{"host": self._host, "key": key} for key in self.keys]
        answers, self._answers, self.keys = self._answers, _Answers(), {}
        # An origin cannot be asked whether it means it, nor choose among nodes: those that can, purge.
        return _encode({"kind": "key", "targets": targets, "on_incapable": "skip", "confirm": True}), answers


class _Answers:
    """Who waits for one reply; later ones get it at once."""

    __slots__ = ("_reply", "_waiting")

    def __init__(self, *waiting: Callable[[Reply], None]) -> None:
        self._waiting = list(waiting)
        self._reply: Reply | None = None

    def add(self, answer: Callable[[Reply], None]) -> None:
        if self._reply is None:
            self._waiting.append(answer)
        else:
            answer(self._reply)

    def end(self, reply: Reply) -> None:
        """Answer all."""
        self._reply = reply
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            answer(reply)
