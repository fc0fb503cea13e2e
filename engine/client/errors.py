"""How a request to an engine can fail: no engine answered, or one refused."""

from __future__ import annotations

import json
import time

from engine.errors import EngineError

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    from collections.abc import Mapping
    from email.message import Message
    from typing import Any

BUSY = frozenset({429, 502, 503, 504})


class ClientError(EngineError):
    """Base of what a client of engines raises."""


class UnreachableError(ClientError):
    """No engine answered: no connection, no answer in time, or no answer an engine gives.

    Args:
        url: address that was tried; of several engines all of them.
        reason: what happened, for people.
        sent: whether an engine may have received the request.
    """

    def __init__(self, url: str, reason: str, *, sent: bool) -> None:
        super().__init__(f"engine {url} unreachable: {reason}")
        self.url = url
        self.reason = reason
        self.sent = sent


class RefusedError(ClientError):
    """The engine answered, but not with what was asked for.

    Args:
        status: HTTP status, from 300 up.
        detail: the problem document's sentence, or the status when there is none.
        retry_after_s: seconds until a retry is worth it; None when the engine names none.
        field: of the request that the problem is about; empty: none, or it is not said.
        problem: the problem document (RFC 9457); empty: the answer had none, so it may be another program's.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        retry_after_s: float | None = None,
        field: str = "",
        problem: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{detail} ({status})")
        self.status = status
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.field = field
        self.problem = problem or {}

    @property
    def is_busy(self) -> bool:
        """Whether the same request may work later, or at another engine."""
        return self.status in BUSY


class StillRunningError(ClientError):
    """A task has not settled in the time that was given; the engine goes on with it.

    Args:
        task_id: which.
        timeout_s: how long it was waited for.
        state: its state then.
    """

    def __init__(self, task_id: str, *, timeout_s: float, state: str) -> None:
        super().__init__(f"task {task_id} is {state} after {timeout_s:g} s; the engine goes on with it")
        self.task_id = task_id
        self.timeout_s = timeout_s
        self.state = state


class OutboxError(ClientError):
    """A task could not be kept in an outbox: it is not stored. The text names the folder and the reason."""


class OutboxFullError(OutboxError):
    """An outbox has as many tasks, or bytes, as it may have; the task is not stored."""


class DamagedEntryError(ClientError):
    """A file of an outbox is none that a client wrote."""


def refusal_of(status: int, headers: Mapping[str, str] | Message, content: bytes) -> RefusedError:
    """Return the error for an answer that is not a success."""
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    return refusal_in(document, status=status, headers=headers)


def refusal_in(document: object, *, status: int, headers: Mapping[str, str] | Message) -> RefusedError:
    """Return the error that a problem document tells of; *document* may be anything."""
    problem: dict[str, Any] = document if isinstance(document, dict) else {}
    if 300 <= status < 400:  # noqa: PLR2004 - HTTP's redirections
        detail = f"redirected to {headers.get('location', 'nowhere')}; name that address as the engine's"
    else:
        detail = problem.get("detail") or problem.get("title") or f"the engine answered: {_name_of(status)}"
    return RefusedError(
        status,
        str(detail),
        retry_after_s=_retry_after_s(headers.get("retry-after")),
        field=str(problem.get("field", "")),
        problem=problem,
    )


def _name_of(status: int) -> str:
    from http.client import responses  # noqa: PLC0415 - brings what no start should wait for

    return responses.get(status, "no success")


def _retry_after_s(value: str | None) -> float | None:
    """Read the header: seconds or a date (RFC 9110, section 10.2.3)."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - as above

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
