"""Sends what an outbox has: oldest first, one sender at a time.

An entry is removed when an engine has the task. What becomes of it otherwise:

- 400, 409, 413, 415, 422 of an engine: no repeat would change it. It is set aside with the reason; the rest
  goes on.
- 500 and 503 of an engine: it is busy, or the queue of one node is full. The entry stays, and the rest goes
  on; so many in a row end the run.
- 401, 403, 429, redirects, other statuses, answers that are no engine's, none at all: the rest would fare no
  better. The run ends, and all stay: credentials and addresses are mended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.client import operations
from engine.client.attempts import Patience
from engine.client.bodies import tasks_of
from engine.client.errors import ClientError, DamagedEntryError, OutboxError, RefusedError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.client.http import HttpClient
    from engine.client.outbox import Entry, Outbox

FOR_GOOD = frozenset({400, 409, 413, 415, 422})
NOT_NOW = frozenset({500, 503})
NOT_NOW_IN_A_ROW_MAX = 100  #: entries that an engine does not take now, after which a run ends
SOME = 20  #: entries that are sent on the way, while a program waits for a task of its own
SOME_S = 2.0  #: for each of them


class Outcome(NamedTuple):
    """What came of a run."""

    sent: int = 0
    refused: int = 0  #: for good: set aside
    left: int = 0
    is_elsewhere: bool = False  #: another sender is at work, so this one did nothing
    error: ClientError | None = None  #: why entries stay, or the run ended


class _Stop(Exception):  # noqa: N818 - no error: it ends a loop
    """The run is over."""


def send(
    outbox: Outbox,
    submit: Callable[[bytes], object],
    notice: Callable[[str], None],
    *,
    count: int | None = None,
) -> Outcome:
    """Send what *outbox* has, and return what came of it.

    Args:
        outbox: whose.
        submit: hands a body to an engine, and raises what `ClientError` that comes to.
        notice: is told of each entry that is set aside or cannot be read.
        count: of entries at most; None: all.

    Raises:
        OutboxError: the folder cannot be read.
    """
    waiting = len(outbox.entries())
    if not waiting:
        return Outcome()
    run = _Run(outbox, submit, notice)
    try:
        return _send(outbox, run, waiting=waiting, count=count)
    except OSError as exc:
        raise OutboxError(f"outbox {outbox.folder}: {exc.strerror or exc}") from exc


def _send(outbox: Outbox, run: _Run, *, waiting: int, count: int | None) -> Outcome:
    with outbox.sending() as is_ours:
        if not is_ours:
            return Outcome(left=waiting, is_elsewhere=True)
        try:
            for entry in outbox.entries()[:count]:
                run.entry(entry)
        except _Stop:
            pass
        finally:
            if run.sent:
                outbox.settle()
        return Outcome(run.sent, run.refused, len(outbox.entries()), error=run.error)


def send_some(outbox: Outbox, engines: HttpClient, notice: Callable[[str], None]) -> None:
    """Send a few entries, without a second attempt; whatever is wrong is told, and the caller goes on."""
    patience = Patience(SOME_S, rounds=1, busy_rounds=1)
    try:
        outcome = send(
            outbox, lambda body: engines.run(operations.submit(body), patience), notice, count=SOME
        )
    except OutboxError as exc:
        notice(f"the outbox {outbox.folder} was not sent: {exc}")
        return
    if outcome.sent or outcome.error:
        why = f": {outcome.error}" if outcome.error else ""
        notice(f"{tasks_of(outcome.sent)} of the outbox sent, {outcome.left} left{why}")


class _Run:
    """One run of a sender."""

    def __init__(
        self, outbox: Outbox, submit: Callable[[bytes], object], notice: Callable[[str], None]
    ) -> None:
        self.sent = 0
        self.refused = 0
        self.error: ClientError | None = None
        self._outbox = outbox
        self._submit = submit
        self._notice = notice
        self._not_now_in_a_row = 0

    def entry(self, entry: Entry) -> None:
        """Send one entry. Raises _Stop when the next would fare no better."""
        try:
            self._submit(self._outbox.read(entry)["body"].encode())
        except FileNotFoundError:  # dropped meanwhile
            return
        except OSError as exc:
            self.error = ClientError(f"{entry.path} cannot be read: {exc.strerror}")
            return
        except DamagedEntryError as exc:
            self._set_aside(entry, exc, status=0)
            return
        except UnreachableError as exc:
            self.error = exc
            raise _Stop from exc
        except RefusedError as exc:
            self._weigh(entry, exc)
            return
        self._outbox.remove(entry)
        self.sent += 1
        self._not_now_in_a_row = 0

    def _weigh(self, entry: Entry, error: RefusedError) -> None:
        is_of_engine = bool(error.problem.get("detail"))  # a proxy in between may refuse with 400 or 413, too
        if is_of_engine and error.status in FOR_GOOD:
            self._set_aside(entry, error, status=error.status)
            return
        self.error = error
        if is_of_engine and error.status in NOT_NOW:
            self._not_now_in_a_row += 1
        else:
            raise _Stop from error
        if self._not_now_in_a_row >= NOT_NOW_IN_A_ROW_MAX:
            raise _Stop from error

    def _set_aside(self, entry: Entry, error: ClientError, *, status: int) -> None:
        self._notice(f"task {entry.task_id} of the outbox is set aside: {error}")
        try:
            self._outbox.set_aside(entry, str(error), status=status)
        except OSError as exc:
            self.error = ClientError(f"task {entry.task_id} cannot be set aside: {exc.strerror}")
            return
        self.refused += 1
        self._not_now_in_a_row = 0
