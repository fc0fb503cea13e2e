"""Waiting until tasks are settled."""

from __future__ import annotations

import time
from collections import Counter

from engine.cli.away import FACTOR, Away
from engine.cli.cells import rows_of
from engine.client.errors import RefusedError, UnreachableError
from engine.client.polls import POLL_FIRST_S, POLL_GROWTH, POLL_LAST_S, SETTLED

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.cli.client import EngineClient
    from engine.client.bodies import Document


_COUNTS = ("total", "counter", "failed", "delayed", "cancelled")
_VERDICTS = ("verified", "stale", "unverifiable")
_NAMED_MAX = 5  #: nodes that have not answered
TOLD_FIRST_S = 5.0  #: what is waited for is said for the first time
TOLD_EVERY_S = 15.0


def wait(
    client: EngineClient,
    task_ids: Sequence[str],
    *,
    report: Callable[[Sequence[Document]], None],
    say: Callable[[str], None] = lambda _text: None,
    has_answered: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Document]:
    """Poll tasks until each is done, failed, cancelled or partial; return their documents.

    An engine that answered once may be away for six times the client's time-out (it restarts, say)
    before that counts as unreachable.

    Args:
        client: asks the engine.
        task_ids: tasks to wait for.
        report: is given the documents as they are after each round.
        say: is given a line when the engine is away, and when it is back.
        has_answered: the engine has answered this client before: it took the tasks.
        sleep: waits; for tests.

    Raises:
        UnreachableError: the engine is away.
        RefusedError: the engine refuses to show a task.
    """
    documents: dict[str, Document] = {}
    interval_s = POLL_FIRST_S
    away = Away(say, FACTOR * client.timeout_s)
    if has_answered:
        away.answered()
    while True:
        try:
            for task_id in task_ids:
                if documents.get(task_id, {}).get("state") not in SETTLED:
                    documents[task_id] = client.look(task_id)
                    away.answered()
        except (UnreachableError, RefusedError) as exc:
            away.lost(exc)
        else:
            report(list(documents.values()))
            if all(document["state"] in SETTLED for document in documents.values()):
                return list(documents.values())
        sleep(interval_s)
        interval_s = min(interval_s * POLL_GROWTH, POLL_LAST_S)


def why_waiting(documents: Sequence[Document], waited_s: float = 0.0) -> str:
    """Return a line that says what partial tasks wait for, a reason for each node; empty: none is partial.

    Args:
        documents: of the tasks.
        waited_s: seconds that they were waited for.
    """
    partial = [document for document in documents if document["state"] == "partial"]
    if not partial:
        return ""
    count = sum(int(document.get("delayed") or 0) for document in partial)
    named = _reasons(partial)
    waits = f"{count} subtasks wait" if count else "not everything is delivered"
    waits += f" for {named}" if named else ""
    after = f"after {waited_s:.0f} s " if waited_s >= 1 else ""
    return f"{after}{waits}: it goes on in the engine, and late delivery makes it done"


def what_was_absent(documents: Sequence[Document]) -> str:
    """Return a line that says how much of what was acked no cache had; empty: nothing that they told of."""
    absent, counter = (
        sum(int(document.get(key) or 0) for document in documents) for key in ("absent", "counter")
    )
    if not absent:
        return ""
    if absent == counter:
        return f"nothing was dropped: none of the caches had it ({absent} of {counter} acked subtasks absent)"
    return f"{absent} of {counter} acked subtasks were absent: those caches had nothing to drop"


def what_was_verified(documents: Sequence[Document]) -> str:
    """Return a line that says what visits after the acks came to; empty: no task was to be verified."""
    verified = [document["verify"] for document in documents if document.get("verify")]
    if not verified:
        return ""
    counts = {key: sum(int(one.get(key) or 0) for one in verified) for key in _VERDICTS}
    line = f"verification: {', '.join(f'{count} {key}' for key, count in counts.items())}"
    rules = Counter[str]()
    for one in verified:
        rules.update(one.get("rules") or {})
    if rules:
        line += f", decided by {', '.join(f'{rule} ({count})' for rule, count in sorted(rules.items()))}"
    told = dict.fromkeys(
        text for one in verified for text in (one.get("note"), *(one.get("reasons") or ())[:1]) if text
    )
    return "; ".join([line, *map(str, told)])


def still_waiting(documents: Sequence[Document], waited_s: float = 0.0) -> str:
    """Return a line that says how far tasks are, and what those that are not settled wait for.

    Args:
        documents: of the tasks.
        waited_s: seconds that they were waited for.
    """
    unsettled = [document for document in documents if document["state"] not in SETTLED]
    counts = {key: sum(int(document.get(key) or 0) for document in documents) for key in _COUNTS}
    settled = counts["counter"] + counts["failed"] + counts["cancelled"]
    layers = dict.fromkeys(str(document.get("working_layer") or "") for document in unsettled)
    at = f", at work: {', '.join(filter(None, layers))}" if any(layers) else ""
    told = "".join(f", {counts[key]} {key}" for key in ("failed", "delayed") if counts[key])
    named = f": {_reasons(unsettled)}" if counts["delayed"] and _reasons(unsettled) else ""
    tasks = f"{len(unsettled)} of {len(documents)} tasks" if len(documents) > 1 else "the task"
    so_far = f" ({waited_s:.0f} s)" if waited_s >= 1 else ""
    how_far = f"{settled} of {counts['total']} subtasks settled{at}{told}{named}"
    return "; ".join(filter(None, (f"waiting for {tasks}{so_far}: {how_far}", whom_for(unsettled))))


def whom_for(documents: Sequence[Document]) -> str:
    """Return the nodes of the layers at work that have not answered, with how many subtasks each."""
    left = Counter[str]()
    for document in documents:
        for row in rows_of(document, "nodes"):
            if row.get("layer") == document.get("working_layer"):
                settled = sum(int(row.get(key) or 0) for key in ("acked", "failed", "delayed", "cancelled"))
                left[str(row.get("name"))] += int(row.get("total") or 0) - settled
    named = [f"{name} ({count})" for name, count in left.most_common() if count > 0]
    more = f" and {len(named) - _NAMED_MAX} more" if len(named) > _NAMED_MAX else ""
    return f"no answer yet of {', '.join(named[:_NAMED_MAX])}{more}" if named else ""


class Pulse:
    """Says now and then what is waited for, where no progress bar can be drawn.

    Args:
        say: is given a line.
        now: monotonic seconds; for tests.
    """

    def __init__(self, say: Callable[[str], None], now: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._now = now
        self._began = now()
        self._due = self._began + TOLD_FIRST_S

    def __call__(self, documents: Sequence[Document]) -> None:
        """Take the documents as they are now."""
        now = self._now()
        if now >= self._due and any(document["state"] not in SETTLED for document in documents):
            self._due = now + TOLD_EVERY_S
            self._say(still_waiting(documents, now - self._began))


def _reasons(documents: Sequence[Document]) -> str:
    """Return the nodes that have errors, each with the first of its reasons."""
    reasons: dict[str, str] = {}
    for error in (error for document in documents for error in document.get("errors") or ()):
        reasons.setdefault(str(error.get("node")), str(error.get("reason")))
    return "; ".join(f"{node} ({reason})" for node, reason in reasons.items())
