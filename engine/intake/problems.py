"""Errors as clients see them: RFC 9457 problem documents, the same from both lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from engine.base.phrases import phrase_of
from engine.errors import BacklogFullError, EngineError, NotCancelledError, RequestError, StoreError
from engine.intake.replies import Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTENT_TYPE: Final = "application/problem+json"
ENDED_EARLY: Final = "the request ended before it was complete"
_STORE_RETRY_S: Final = 2


class Problem(msgspec.Struct, omit_defaults=True):
    """The body of a problem document.

    ``field`` is a JSON path, set when the error is about one field; ``line`` the line of an NDJSON request,
    from 1.
    """

    title: str
    status: int
    detail: str
    field: str = ""
    line: int = 0


def problem(status: int, detail: str, *, field: str = "", headers: Mapping[str, str] | None = None) -> Reply:
    """Return the reply for *status*; *detail* says in a sentence what is wrong and what would be right."""
    text = Problem(phrase_of(status), status, detail, field)
    try:
        body = msgspec.json.encode(text)
    except UnicodeEncodeError:  # it quotes bytes of a request that are no UTF-8
        text.detail = detail.encode(errors="backslashreplace").decode()
        body = msgspec.json.encode(text)
    return Reply(status, body, CONTENT_TYPE, headers or {})


def too_large(body_max_bytes: int) -> RequestError:
    """Return the 413 for a body of more bytes than one may have, whether or not all of it has come."""
    return RequestError(413, f"the body is over {body_max_bytes} bytes (body_max_bytes)")


def reply_of(exc: EngineError, *, with_hint: bool = True, request: str = "") -> Reply:
    """Return the reply for an error of the engine.

    Args:
        exc: the error.
        with_hint: whether the nearest known word is named.
        request: its method and path; none: it hands in a task.
    """
    if isinstance(exc, RequestError):
        detail = exc.detail if with_hint else exc.short
        return problem(exc.status, detail, field=exc.field, headers=exc.headers)
    if isinstance(exc, BacklogFullError):
        return problem(503, str(exc), headers={"Retry-After": f"{exc.retry_after_s:.0f}"})
    if isinstance(exc, StoreError):
        what = _undone(exc, request)
        return problem(503, f"{what}, try again: {exc}", headers={"Retry-After": str(_STORE_RETRY_S)})
    return problem(500, "an error in the engine; its log says more")


def _undone(exc: StoreError, request: str) -> str:
    """Return what a store that failed has kept a request from."""
    if isinstance(exc, NotCancelledError):
        return "the task is not cancelled yet"
    if request.startswith("GET "):
        return "the store cannot be read"
    if not request or "/task" in request or "/retries" in request:
        return "the task was not saved"
    return "it was not done"
