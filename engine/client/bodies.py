"""Documents: the JSON objects that go to an engine and come back, and how targets are parted into tasks."""

from __future__ import annotations

import json
import os
import re

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any, TypedDict

    Document = dict[str, Any]  #: a JSON object of the engine

    class TaskOptions(TypedDict, total=False):
        """What a task may have beside its targets; docs/http.md says what each means."""

        id: str
        kind: str
        soft: bool
        prefetch: bool
        layers: Sequence[str]
        nodes: Sequence[str]
        callback: str
        due_s: float
        on_incapable: str
        rebound_s: float
        start_at: float
        verify: bool | Mapping[str, Any]
        literal: bool
        confirm: bool


TARGETS_MAX = 10_000  #: targets one task may have
BODY_MAX_BYTES = 8 * 1024 * 1024
BODY_SPARE_BYTES = 16 * 1024  #: of a body, for what is not targets
IDS = "1-64 of A-Z a-z 0-9 . _ -"
LINES_MAX = 1000  #: tasks that one request hands in


def split(targets: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield *targets* in parts that one task may have, by number and by bytes."""
    for start in range(0, len(targets), TARGETS_MAX):
        yield from _halve(targets[start : start + TARGETS_MAX])


def encode(document: Document | Sequence[str]) -> bytes:
    """Return *document* as JSON; equal documents give equal bytes, so the engine recognises a repeat."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def tasks_of(count: int) -> str:
    """Return how many tasks, for a sentence."""
    return "1 task" if count == 1 else f"{count} tasks"


def new_id() -> str:
    """Return a task id that nobody else uses."""
    return os.urandom(16).hex()


def is_task_id(task_id: object) -> bool:
    """Return whether an engine takes *task_id*; a file may be named by one."""
    return isinstance(task_id, str) and bool(re.fullmatch(r"[A-Za-z0-9._-]{1,64}", task_id))


def task_of(action: str, targets: Sequence[object] | str, options: Mapping[str, Any]) -> Document:
    """Return a task for `body_of`."""
    listed = [targets] if isinstance(targets, str) else list(targets)
    return {"action": action, **options, "targets": listed}


def body_of(task: Mapping[str, Any]) -> tuple[str, bytes]:
    """Return the id of a task, its own or a new one, and the body that carries it.

    Raises:
        ValueError: one request cannot carry it; the text says why.
    """
    task_id = task.get("id") or new_id()
    targets = task.get("targets")
    if not is_task_id(task_id):
        raise ValueError(f"id: {task_id!r} is no task id: {IDS}")
    if not isinstance(targets, list | tuple) or not 0 < len(targets) <= TARGETS_MAX:
        raise ValueError(f"targets: takes a list of 1 to {TARGETS_MAX} targets; split() makes parts of more")
    try:
        body = encode({**task, "id": task_id})
    except (TypeError, UnicodeEncodeError) as exc:
        raise ValueError(f"task {task_id}: cannot be JSON: {exc}") from exc
    if len(body) > BODY_MAX_BYTES:
        raise ValueError(
            f"task {task_id}: has {len(body)} bytes, at most {BODY_MAX_BYTES}: name fewer targets"
        )
    return task_id, body


def parts_of(bodies: Sequence[tuple[str, bytes]]) -> Iterator[Sequence[tuple[str, bytes]]]:
    """Yield *bodies* in parts that one request may carry, by number and by bytes."""
    start = size = 0
    for end, (_, body) in enumerate(bodies):
        if end > start and (size + len(body) + 1 > BODY_MAX_BYTES or end - start >= LINES_MAX):
            yield bodies[start:end]
            start, size = end, 0
        size += len(body) + 1
    if bodies:
        yield bodies[start:]


def _halve(targets: Sequence[str]) -> Iterator[Sequence[str]]:
    if len(targets) > 1 and len(encode(targets)) > BODY_MAX_BYTES - BODY_SPARE_BYTES:
        middle = len(targets) // 2
        yield from _halve(targets[:middle])
        yield from _halve(targets[middle:])
    else:
        yield targets
