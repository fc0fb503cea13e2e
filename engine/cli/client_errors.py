"""How a request to an engine can fail, as the command line tells it."""

from __future__ import annotations

import http.client
import json
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from engine.errors import EngineError

if TYPE_CHECKING:
    from email.message import Message

BUSY = frozenset({429, 503})


class EngineUnreachableError(EngineError):
    """No engine answered: no connection, no answer in time, or no answer an engine gives.

    Args:
        url: address that was tried.
        reason: what happened, for people.
        sent: whether the engine may have received the request.
    """

    def __init__(self, url: str, reason: str, *, sent: bool) -> None:
        super().__init__(f"engine {url} unreachable: {reason}")
        self.url = url
        self.reason = reason
        self.sent = sent


class ProblemError(EngineError):
    """The engine answered, but not with what was asked for.

    Args:
        status: HTTP status, from 300 up.
        detail: the problem document's sentence, or the status when there is none.
        retry_after_s: seconds until a retry is worth it; None when the engine names none.
        field: of the request that the problem is about; empty: none, or it is not said.
    """

    def __init__(
        self, status: int, detail: str, *, retry_after_s: float | None = None, field: str = ""
    ) -> None:
        super().__init__(f"{detail} ({status})")
        self.status = status
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.field = field

    @property
    def is_busy(self) -> bool:
        """Whether the same request may work later."""
        return self.status in BUSY


def problem_of(status: int, headers: Message, content: bytes) -> ProblemError:
    """Return the error for an answer that is not a success."""
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        document = {}
    if 300 <= status < 400:  # noqa: PLR2004 - HTTP's redirections
        detail = f"redirected to {headers.get('Location', 'nowhere')}; name that address as the engine's"
    else:
        name = http.client.responses.get(status, "no success")
        detail = document.get("detail") or document.get("title") or f"the engine answered: {name}"
    field = str(document.get("field", ""))
    retry_after_s = _retry_after_s(headers.get("Retry-After"))
    return ProblemError(status, str(detail), retry_after_s=retry_after_s, field=field)


def _retry_after_s(value: str | None) -> float | None:
    """Read the header: seconds or a date (RFC 9110, section 10.2.3)."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
