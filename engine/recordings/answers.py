"""What an answer says, taken apart: of a request with several tasks, each of its lines. Pure.

``POST /v1/engine/tasks`` is answered 200 whatever became of its lines: each line has a status of its own, in
its problem document, or a task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

_DETAIL_CHARS: Final = 200
_OK: Final = 200
_ACCEPTED: Final = 202
_ERRORS: Final = 400  #: the first status of an error
_LINES: Final = "POST /v1/engine/tasks"


class Part(NamedTuple):
    """How a request, or one of its lines, was answered."""

    status: int  #: 0: not at all
    task_id: str = ""  #: of the task that it made; empty: none
    detail: str = ""  #: of a refusal, or why there is no answer


class Answer(NamedTuple):
    """An answer: a part for each line, or one for the whole."""

    parts: tuple[Part, ...]
    has_lines: bool = False

    def part(self, place: int) -> Part:
        """Return what one line was answered; of an answer to the whole that is what all of them were."""
        if place < len(self.parts):
            return self.parts[place]
        if self.has_lines:
            return Part(0, detail="there is no answer to this line")
        return self.parts[0]._replace(task_id="")

    @property
    def task_ids(self) -> list[str]:
        """The ids of the tasks that it made, in the order of the lines; empty where a line made none."""
        return [part.task_id for part in self.parts]


UNANSWERED: Final = Answer((Part(0, detail="not sent"),))


def answer_of(request: str, status: int, body: bytes, detail: str = "") -> Answer:
    """Take an answer apart.

    Args:
        request: method and path.
        status: of the answer; 0: there is none.
        body: of it.
        detail: why there is none.
    """
    if status == _OK and request.partition("?")[0] == _LINES:
        lines = [line for line in body.split(b"\n") if line.strip()]
        if lines:
            return Answer(tuple(map(_part_of, lines)), has_lines=True)
    task_id = task_id_of(body) if request.startswith("POST ") else ""
    return Answer((Part(status, task_id, detail or _detail_of(status, body)),))


def pairs(request: str, one: Answer, other: Answer) -> Iterator[tuple[str, Part, Part]]:
    """Yield what is compared of two answers to a request, with the name of each."""
    if not (one.has_lines or other.has_lines):
        yield request, one.parts[0], other.parts[0]
        return
    for place in range(max(len(one.parts), len(other.parts))):
        yield f"{request} line {place + 1}", one.part(place), other.part(place)


def task_id_of(body: bytes) -> str:
    """Return the ``task_id`` of an answer; empty when it has none."""
    task_id = _object_of(body).get("task_id")
    return task_id if isinstance(task_id, str) else ""


def _part_of(line: bytes) -> Part:
    """Return what a line was answered: its problem's status, 202 for a task, 200 for what is neither."""
    document = _object_of(line)
    task_id, status = document.get("task_id"), document.get("status")
    if isinstance(task_id, str):
        return Part(_ACCEPTED, task_id)
    if isinstance(status, int) and status >= _ERRORS:
        return Part(status, detail=str(document.get("detail", ""))[:_DETAIL_CHARS])
    return Part(_OK)


def _detail_of(status: int, body: bytes) -> str:
    if status < _ERRORS:
        return ""
    try:
        document: Any = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return body[:_DETAIL_CHARS].decode("latin-1")
    detail = document.get("detail", "") if isinstance(document, dict) else ""
    return str(detail)[:_DETAIL_CHARS]


def _object_of(body: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return {}
    return document if isinstance(document, dict) else {}
