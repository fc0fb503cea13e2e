"""A client's connection to a purge door: heads in, tasks to the intake, text out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.doors.purge import texts
from engine.doors.purge.heads import HAS_BODY, HEAD_MAX_BYTES, UnframedError
from engine.errors import RequestError
from engine.intake.pipeline import Pipeline
from engine.intake.problems import problem
from engine.tasks.traceparent import read_traceparent

if TYPE_CHECKING:
    import asyncio

    from engine.doors.asked import Asked
    from engine.doors.purge.desk import PurgeDesk
    from engine.doors.purge.heads import Head
    from engine.doors.submitting import Saved
    from engine.errors import EngineError
    from engine.intake.gate import Gate
    from engine.intake.replies import Reply
    from engine.intake.slot import Slot

KIND: Final = "purge"  #: of the door, see `By.door`
_TOO_LARGE = f"the head is over {HEAD_MAX_BYTES} bytes; send the tags in several requests"


class PurgeConnection(Pipeline):
    """One client connection.

    Args:
        desk: of the door.
        gate: of the door.
        loop: the engine's.
    """

    def __init__(self, desk: PurgeDesk, gate: Gate, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(gate, loop, KIND)
        self._desk = desk

    def __repr__(self) -> str:
        return f"<PurgeConnection [{len(self._slots)} pending]>"

    def refused(self, error: EngineError) -> Reply:
        """Count an error before any request, and return its reply."""
        return self._refusal(error)

    def problem(self, status: int, detail: str) -> Reply:
        """Return the reply for a request that did not come whole."""
        return texts.refusal(problem(status, detail))

    def read_request(self, data: bytes) -> bytes | None:
        """Read one request at the start of *data*; return the bytes behind it, or None when all are used."""
        if data.startswith(b"\r\n"):  # RFC 9112 section 2.2: some clients end a request with one more
            data = data[2:]
            if not data:
                return None
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:  # noqa: PLR2004 - as above
            self._unfinished(data)
            return None
        self._is_in_head = False
        if end > HEAD_MAX_BYTES:
            self._refuse_unread(RequestError(431, _TOO_LARGE))
            return None
        try:
            head = self._desk.read(data[:end])
        except UnframedError as exc:
            self._refuse_unread(exc)
            return None
        behind = len(data) - end
        if head.fields.body_bytes > behind:
            self._refuse_unread(RequestError(400, HAS_BODY))
            return None
        self._take(head)
        return data[end + head.fields.body_bytes :]

    def _unfinished(self, data: bytes) -> None:
        if len(data) > HEAD_MAX_BYTES:
            self._refuse_unread(RequestError(431, _TOO_LARGE))
        elif not (data[:1].isupper() or data[:1] == b"\r"):
            self._refuse_unread(UnframedError(400, "this is no request: takes 'METHOD PATH HTTP/1.1'"))
        else:
            self._wait_for_head(data)

    def _refuse_unread(self, error: RequestError) -> None:
        """Answer a request of which nobody can tell where it ends, and close."""
        self._desk.admission.stats.requests += 1
        self._say_and_close(self._refusal(error))

    def _refusal(self, error: EngineError, head: Head | None = None) -> Reply:
        forwarded = head.fields.forwarded if head is not None else b""
        request = head.request if head is not None else ""
        by = self._caller.by(self._desk.token.name, forwarded)
        return texts.refusal(self._desk.admission.refuse(error, by, request=request))

    def _take(self, head: Head) -> None:
        """Have a request answered by what it asks for."""
        desk = self._desk
        desk.admission.stats.requests += 1
        slot = self._add_slot(is_last=head.is_last)
        client = self._caller.client(desk.token, head.fields.forwarded)
        if traceparent := read_traceparent(head.get("traceparent")):
            client = client._replace(traceparent=traceparent)
        try:
            desk.access.check(head, client.by.address)
            asked = desk.understand(head)
        except RequestError as exc:
            slot(self._refusal(exc, head))
            return
        answer = _Answer(slot, asked, is_old=head.is_old)
        desk.submitting.submit(asked, client, answer, wait_s=desk.wait_s)


class _Answer:
    """Says what became of one request."""

    __slots__ = ("_asked", "_is_old", "_slot")

    def __init__(self, slot: Slot, asked: Asked, *, is_old: bool) -> None:
        self._slot = slot
        self._asked = asked
        self._is_old = is_old

    def __call__(self, saved: Saved) -> None:
        if saved.refusal is not None:
            self._slot(texts.refusal(saved.refusal, saved.task_ids))
        elif saved.tasks and texts.has_failed(saved):
            self._slot(texts.failure(self._asked, saved))
        else:
            is_old = self._is_old and not self._slot.is_last
            self._slot(texts.success(self._asked, saved, is_old=is_old))
