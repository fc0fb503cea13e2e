"""Errors as clients see them: RFC 9457 problem documents, the same from both lanes."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import msgspec

from engine.errors import BacklogFullError, EngineError, RequestError, StoreError
from engine.intake.replies import Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTENT_TYPE: Final = "application/problem+json"
_STORE_RETRY_S: Final = 2


class Problem(msgspec.Struct, omit_defaults=True):
    """The body of a problem document. ``field`` is a JSON path, set when the error is about one field."""

    title: str
    status: int
    detail: str
    field: str = ""


def problem(status: int, detail: str, *, field: str = "", headers: Mapping[str, str] | None = None) -> Reply:
    """Return the reply for *status*; *detail* says in a sentence what is wrong and what would be right."""
    body = msgspec.json.encode(Problem(HTTPStatus(status).phrase, status, detail, field))
    return Reply(status, body, CONTENT_TYPE, headers or {})


def reply_of(exc: EngineError) -> Reply:
    """Return the reply for an error of the engine."""
    if isinstance(exc, RequestError):
        return problem(exc.status, exc.detail, field=exc.field, headers=exc.headers)
    if isinstance(exc, BacklogFullError):
        return problem(503, str(exc), headers={"Retry-After": f"{exc.retry_after_s:.0f}"})
    if isinstance(exc, StoreError):
        return problem(
            503, f"the task was not saved, try again: {exc}", headers={"Retry-After": str(_STORE_RETRY_S)}
        )
    return problem(500, "an error in the engine; its log says more")
