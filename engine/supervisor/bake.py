"""The first seconds of a new release under traffic: whether its workers stay up, ready and without errors.

A watch ends early once the workers together have answered so many requests well that more would tell nothing
new: under load the next host need not wait.

A node whose purges counted before, and that is unproven for the new workers, is a fault, too. Not so a node
that no probe can prove: its purges do, and the new workers may not have sent one yet.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from . import asking
from .steps import together

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .worker import Worker

_EVERY_S: Final = 0.5
_FAILURES_MAX: Final = 3
_TOLD_MAX: Final = 3
_ERRORS_MIN: Final = 20
_ERRORS_SHARE: Final = 0.05
_ENOUGH_COUNT: Final = 2000  #: requests without an error of the worker's
_LEAST_S: Final = 2.0  #: what a worker begins by itself, such as probing its nodes, has ended by then


class Answers(NamedTuple):
    """How many requests a worker answered, and how many of them with 5xx."""

    requests: int
    errors_5xx: int


async def unproven_of(workers: Iterable[Worker]) -> frozenset[str]:
    """Return the nodes that some of these workers have no proof of, or none by a probe.

    Of a worker without an answer there are none.
    """

    async def ask(worker: Worker) -> list[str]:
        try:
            body = (await worker.ask("/readyz"))[1]
            return [*unproven_in(body), *needing_pages_in(body)]
        except (OSError, ValueError):
            return []

    return frozenset(name for names in await asyncio.gather(*map(ask, workers)) for name in names)


def unproven_in(body: bytes) -> dict[str, str]:
    """Return the nodes that are unproven for a worker, with the reason."""
    unproven = _field(body, "unproven")
    return {str(name): str(reason) for name, reason in unproven.items()} if isinstance(unproven, dict) else {}


def needing_pages_in(body: bytes) -> list[str]:
    """Return the nodes that no probe of a worker can prove."""
    names = _field(body, "need_pages")
    return [str(name) for name in names] if isinstance(names, list) else []


def _field(body: bytes, name: str) -> object:
    try:
        document = json.loads(body)
    except ValueError:
        return None
    return document.get(name) if isinstance(document, dict) else None


async def watch(new: Sequence[Worker], bake_s: float, known: frozenset[str]) -> None:
    """Watch the new workers for so long, or until enough requests were seen good.

    Args:
        new: the workers.
        bake_s: the longest time.
        known: nodes that were unproven before, or that no probe can prove.

    Raises:
        StageError: ``bake``: a worker ended, was not ready three times in a row, answers too many 5xx, or
            has no proof of another node.
    """
    began = time.monotonic()
    before = {worker: Answers(worker.requests, worker.errors_5xx) for worker in new}
    await together(_watch(worker, (began, bake_s), before, known) for worker in new)


async def _watch(
    worker: Worker, span: tuple[float, float], before: dict[Worker, Answers], known: frozenset[str]
) -> None:
    """Watch one worker in *span*: the beginning, and seconds from there."""
    began, bake_s = span
    failures = 0
    while (left_s := began + bake_s - time.monotonic()) > 0:
        await asyncio.wait({worker.exited}, timeout=min(_EVERY_S, left_s))
        problem = ""
        if worker.exited.done():
            problem = f"ended {worker.uptime_s:.1f} s after its start ({worker.end()})"
        else:
            reason, problem = await _look_at(worker, known)
            failures = failures + 1 if reason else 0
            if failures == _FAILURES_MAX:
                problem = f"is not ready {failures} times in a row: {reason}"
        if problem := problem or _errors_of(worker, before):
            raise await worker.failure("bake", problem)
        if not failures and time.monotonic() - began >= _LEAST_S and is_enough(_since(before).values()):
            return


async def _look_at(worker: Worker, known: frozenset[str]) -> tuple[str, str]:
    """Return why a worker is not ready, and which nodes would turn unproven; empty: none."""
    try:
        status, body = await worker.ask("/readyz")
    except (OSError, ValueError) as exc:
        return f"/readyz: {exc!r}", ""
    if status != asking.OK:
        return asking.reason_of(status, body), ""
    turned = [f"{name} would turn {why}" for name, why in unproven_in(body).items() if name not in known]
    return "", "; ".join(turned[:_TOLD_MAX])


def _errors_of(worker: Worker, before: dict[Worker, Answers]) -> str:
    since = _since(before)
    return too_many_errors([since[worker]]) or too_many_errors(since.values())


def _since(before: dict[Worker, Answers]) -> dict[Worker, Answers]:
    """Return what each worker has answered since."""
    return {
        new: Answers(new.requests - then.requests, new.errors_5xx - then.errors_5xx)
        for new, then in before.items()
    }


def is_enough(answers: Iterable[Answers]) -> bool:
    """Tell whether every worker answered its share of enough requests, and none of them with 5xx."""
    counts = list(answers)
    least = _ENOUGH_COUNT / max(1, len(counts)) / 2  # the kernel does not share out evenly
    return (
        sum(count.requests for count in counts) >= _ENOUGH_COUNT
        and all(count.requests >= least for count in counts)
        and not any(count.errors_5xx for count in counts)
    )


def too_many_errors(answers: Iterable[Answers]) -> str:
    """Say that too many answers of some workers together are 5xx; else nothing."""
    counts = list(answers)
    requests = sum(count.requests for count in counts)
    errors = sum(count.errors_5xx for count in counts)
    if errors >= _ERRORS_MIN and errors > _ERRORS_SHARE * requests:
        return f"answers with errors: {errors} of {requests} requests were answered 5xx"
    return ""
