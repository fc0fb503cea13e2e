"""What is asked of an engine, and how its answers are read; no socket is touched here.

An operation is a generator: it yields a `Call`, is sent the `Answer`, which is a success, and returns what
was asked for. `http` and `aio` run operations alike. What an engine does not answer so is another program's.
"""

from __future__ import annotations

import json

from engine.client.attempts import Answer, Call
from engine.client.errors import RefusedError, UnreachableError, refusal_in

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from typing import Any, TypeVar

    from engine.client.bodies import Document

    T = TypeVar("T")
    Operation = Generator[Call, Answer, T]

PAGE_MAX = 1000  #: tasks asked for at once
NDJSON = "application/x-ndjson"
_UNQUOTED = dict.fromkeys(map(ord, "._-~"), "0")  #: beside letters and digits, as RFC 3986 has it


def submit(body: bytes) -> Operation[Document]:
    """Hand in a task, which must carry an id, and return the engine's answer."""
    return task_of((yield Call("POST", "/v1/engine/task", body)))


def submit_lines(bodies: Sequence[bytes]) -> Operation[list[Document | RefusedError]]:
    """Hand in tasks, each of which must carry an id; return what came of each, in their order."""
    answer = yield Call("POST", "/v1/engine/tasks", b"\n".join(bodies) + b"\n", NDJSON)
    lines = [line for line in answer.content.split(b"\n") if line.strip()]
    if len(lines) != len(bodies):
        raise no_engine(answer, f"{len(lines)} lines for {len(bodies)} tasks")
    return [_line_of(answer, line) for line in lines]


def task(task_id: str, *, leaves: bool = False) -> Operation[Document]:
    """Return a task's document; with *leaves* what the caches below engines of regions did."""
    return task_of((yield Call("GET", f"{task_path(task_id)}{'?leaves=1' if leaves else ''}")))


def cancel(task_id: str) -> Operation[Document]:
    """Cancel what has no answer of a task, and return the engine's answer."""
    return object_of((yield Call("DELETE", task_path(task_id))))


def why(url: str) -> Operation[Document]:
    """Return what every node serves of a URL, and why."""
    answer = yield Call("GET", f"/v1/engine/why?{query({'url': url})}")
    document = object_of(answer)
    rows_of(answer, document, "nodes")
    return document


def history(filters: Mapping[str, Any], *, limit: int) -> Operation[Document]:
    """Return up to *limit* tasks that *filters* ask the history for, over as many pages as that takes."""
    listed: list[Document] = []
    incomplete = ""
    asked = dict(filters)
    while True:
        asked["limit"] = min(limit - len(listed), PAGE_MAX)
        answer = yield Call("GET", f"/v1/engine/history?{query(asked)}")
        page = object_of(answer)
        listed += rows_of(answer, page, "tasks")
        incomplete = incomplete or str(page.get("incomplete") or "")
        asked["cursor"] = page.get("cursor")
        if not asked["cursor"] or len(listed) >= limit:  # a page may be empty, and others follow
            found = {
                "tasks": listed,
                "cursor": asked["cursor"],
                "complete_since": page.get("complete_since"),
            }
            return found | {"incomplete": incomplete} if incomplete else found


def task_path(task_id: str) -> str:
    """Return the path of a task."""
    return f"/v1/engine/task/{quoted(task_id)}"


def query(fields: Mapping[str, Any]) -> str:
    """Return fields as a query."""
    from urllib.parse import urlencode  # noqa: PLC0415 - few questions have one

    return urlencode(fields)


def quoted(segment: str) -> str:
    """Return a name as a segment of a path."""
    if segment.isascii() and segment.translate(_UNQUOTED).isalnum():
        return segment
    from urllib.parse import quote  # noqa: PLC0415 - few names need it

    return quote(segment, safe="")


def object_of(answer: Answer) -> Document:
    """Return the JSON object that an answer holds.

    Raises:
        UnreachableError: it holds none; so do the others.
    """
    try:
        document = json.loads(answer.content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise no_engine(answer, "no JSON object")
    return document


def task_of(answer: Answer) -> Document:
    """Return the task that an answer holds."""
    document = object_of(answer)
    if not _is_task(document):
        raise no_engine(answer, "no task")
    return document


def rows_of(answer: Answer, document: Document, key: str) -> list[Document]:
    """Return the list that *document*, an answer's, holds under *key*."""
    rows = document.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise no_engine(answer, f"no list of {key}")
    return rows


def no_engine(answer: Answer, what: str) -> UnreachableError:
    """Return the error for an answer that no engine gives."""
    return UnreachableError(answer.url, f"the answer holds {what}; is this a Purgeline engine?", sent=True)


def _line_of(answer: Answer, line: bytes) -> Document | RefusedError:
    try:
        document = json.loads(line)
    except ValueError:
        document = None
    if _is_task(document):
        assert isinstance(document, dict)
        return document
    if isinstance(document, dict) and isinstance(document.get("status"), int) and "detail" in document:
        return refusal_in(document, status=document["status"], headers=answer.headers)
    raise no_engine(answer, "a line that is no task")


def _is_task(document: object) -> bool:
    return (
        isinstance(document, dict)
        and isinstance(document.get("task_id"), str)
        and isinstance(document.get("state"), str)
    )
