"""What became of the last report of a task to its callback. Pure.

A report that is over is kept with the stored document of its task, as ``told``. One that is not over is known
to the worker that delivers it; its callback is stored until then, its attempts are not.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from engine.tasks.words import FINAL_STATES, State

_UNREPORTED: Final = frozenset({State.ACCEPTED, State.RUNNING})


class Told(msgspec.Struct, omit_defaults=True):
    """What became of one report. Stored: fields may be added, with defaults."""

    reports: str  #: state of the task that was reported
    state: str  #: pending, delivered or failed
    attempts: int
    last: str = ""  #: what came of the last attempt
    next_at: float | None = None  #: UNIX time, as the next
    over_at: float | None = None


class CallbackDocument(msgspec.Struct):
    """The last report of a task to its callback; times in UNIX seconds."""

    host: Annotated[str, Meta(description="of its URL; the rest may hold a secret")]
    state: Annotated[
        Literal["waiting", "pending", "delivered", "failed", "unknown"],
        Meta(
            description="waiting: nothing is to be reported yet; pending: it is tried (again); failed: given "
            "up; unknown: another worker or engine delivers it, or it was over before this version"
        ),
    ]
    reports: Annotated[str | None, Meta(description="the state of the task that is told")] = None
    attempts: Annotated[
        int | None,
        Meta(description="made since the engine that delivers it started; null: not known here"),
    ] = None
    last: Annotated[str, Meta(description="what came of the last attempt")] = ""
    next_at: Annotated[float | None, Meta(description="when it is tried again")] = None
    over_at: Annotated[float | None, Meta(description="when it was delivered, or given up")] = None


def replaces(told: Told, before: Told | None) -> bool:
    """Tell whether what became of a report is newer than *before*: the report of an end is the last one."""
    return before is None or told.reports in FINAL_STATES or before.reports not in FINAL_STATES


def tell(stored: dict[str, Any], told: Told) -> bool:
    """Keep in a stored document what became of a report, in place; False: a later report's is there."""
    before = stored.get("told")
    if not replaces(told, None if before is None else msgspec.convert(before, Told)):
        return False
    stored["told"] = msgspec.to_builtins(told)
    return True


def callback_of(stored: dict[str, Any]) -> CallbackDocument | None:
    """Return what clients see of a private document's callback; None: its task asked for none."""
    url = stored.get("callback")
    if not url:
        return None
    document = CallbackDocument(urlsplit(url).hostname or "", "unknown")
    state = stored["state"]
    kept = stored.get("told")
    told = None if kept is None else msgspec.convert(kept, Told)
    if told is None:
        if state in _UNREPORTED:
            document.state = "waiting"
    elif told.state != "pending" and told.reports != state and state not in _UNREPORTED:
        document.state, document.reports = "pending", state  # the report of this state was written with it
    else:
        document = msgspec.convert({"host": document.host, **msgspec.to_builtins(told)}, CallbackDocument)
    return document
