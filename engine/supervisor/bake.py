"""The first seconds of a new release under traffic: whether its workers stay up, ready and without errors."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from . import asking
from .steps import together

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .worker import Worker

_EVERY_S: Final = 0.5
_FAILURES_MAX: Final = 3
_ERRORS_MIN: Final = 20
_ERRORS_SHARE: Final = 0.05


class Answers(NamedTuple):
    """How many requests a worker answered, and how many of them with 5xx."""

    requests: int
    errors_5xx: int


async def watch(new: Sequence[Worker], bake_s: float) -> None:
    """Watch the new workers for so long.

    Raises:
        StageError: ``bake``: a worker ended, was not ready three times in a row, or answers too many 5xx.
    """
    until = time.monotonic() + bake_s
    before = {worker: Answers(worker.requests, worker.errors_5xx) for worker in new}
    await together(_watch(worker, until, before) for worker in new)


async def _watch(worker: Worker, until: float, before: dict[Worker, Answers]) -> None:
    failures = 0
    while (left_s := until - time.monotonic()) > 0:
        await asyncio.wait({worker.exited}, timeout=min(_EVERY_S, left_s))
        problem = ""
        if worker.exited.done():
            problem = f"ended {worker.uptime_s:.1f} s after its start ({worker.end()})"
        elif reason := await _not_ready(worker):
            failures += 1
            problem = f"is not ready {failures} times in a row: {reason}" if failures == _FAILURES_MAX else ""
        else:
            failures = 0
        if problem := problem or _errors_of(worker, before):
            raise await worker.failure("bake", problem)


async def _not_ready(worker: Worker) -> str:
    try:
        status, body = await worker.ask("/readyz")
    except (OSError, ValueError) as exc:
        return f"/readyz: {exc!r}"
    return "" if status == asking.OK else asking.reason_of(status, body)


def _errors_of(worker: Worker, before: dict[Worker, Answers]) -> str:
    since = {
        new: Answers(new.requests - then.requests, new.errors_5xx - then.errors_5xx)
        for new, then in before.items()
    }
    return too_many_errors([since[worker]]) or too_many_errors(since.values())


def too_many_errors(answers: Iterable[Answers]) -> str:
    """Say that too many answers of some workers together are 5xx; else nothing."""
    counts = list(answers)
    requests = sum(count.requests for count in counts)
    errors = sum(count.errors_5xx for count in counts)
    if errors >= _ERRORS_MIN and errors > _ERRORS_SHARE * requests:
        return f"answers with errors: {errors} of {requests} requests were answered 5xx"
    return ""
