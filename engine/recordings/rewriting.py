"""A recorded request as it may be sent once more: nobody's token, an id of its own, no callback. Pure.

A recording holds the requests of a day; an engine that has seen their ids would answer with the tasks of that
day. So ids that clients chose get a mark of the run, and requests that name a task by their path name the new
one.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from engine.errors import RecordingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.recordings.messages import Request

ID_MAX_CHARS: Final = 64
_TASK_PATHS: Final = frozenset({"/v1/engine/task", "/v1/engine/tasks"})
_TASK: Final = re.compile(r"(/v1/engine/task/)([A-Za-z0-9._-]{1,64})(.*)", re.DOTALL)
_NOT_SENT: Final = frozenset(
    {
        "authorization",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "te",
    }
    | {"trailer", "transfer-encoding", "upgrade"}
    | {"traceparent", "tracestate"}  # of a trace of that day, whose receiver is production's
)
_HOST: Final = re.compile(r"(\*\.)?[A-Za-z0-9_.-]+(:[0-9]{1,5})?|\[[0-9a-fA-F:.]+\](:[0-9]{1,5})?")


class Ready(msgspec.Struct, frozen=True):
    """A request that may be sent."""

    method: str
    path: str
    fields: list[tuple[str, str]]
    body: bytes
    names: str  #: the recorded id of the task in its path; empty: none


class Rewriting:
    """What is changed in every request of one run.

    Args:
        mark: of the run; ids end in it.
        token: put into every request; empty: none.
        hosts: recorded host → the host that stands for it.
        keeps_callbacks: tasks keep their ``callback``.

    Raises:
        RecordingError: one of *hosts* is no host.
    """

    def __init__(
        self,
        mark: str,
        *,
        token: str = "",
        hosts: Mapping[str, str] | None = None,
        keeps_callbacks: bool = False,
    ) -> None:
        self._run = self._mark = mark
        self._token = token
        self._hosts = dict(hosts or {})
        for host in (*self._hosts, *self._hosts.values()):
            if not _HOST.fullmatch(host):
                raise RecordingError(f"{host!r} is no host, such as www.example.com")
        self._keeps_callbacks = keeps_callbacks

    def begin_pass(self, number: int) -> None:
        """Have ids differ from those of the passes before; the first is number 0."""
        self._mark = f"{self._run}-{number}" if number else self._run

    def new_id(self, task_id: str) -> str:
        """Return the id that stands for one that a client chose."""
        new = f"{task_id}.{self._mark}"
        if len(new) <= ID_MAX_CHARS:
            return new
        return hashlib.sha256(new.encode()).hexdigest()[:ID_MAX_CHARS]

    def ready(self, request: Request) -> Ready:
        """Return *request* as it may be sent.

        Raises:
            RecordingError: it asks a proxy for somebody else's address.
        """
        path = _path_of(request.path)
        fields = [
            (name, value)
            for name, value in request.fields
            if name.lower() not in _NOT_SENT and not name.lower().startswith("proxy-")
        ]
        if self._token:
            fields.append(("Authorization", f"Bearer {self._token}"))
        body = request.body
        route = path.partition("?")[0]
        is_task = request.method == "POST" and route in _TASK_PATHS
        if is_task:
            lines = body.split(b"\n") if route.endswith("s") else [body]
            body = b"\n".join([self._task(line) if line.strip() else line for line in lines])
        named = _TASK.fullmatch(path)
        return Ready(request.method, path, fields, body, names=named[2] if named else "")

    def _task(self, text: bytes) -> bytes:
        """Return the body of a task; one that is no task as it is."""
        try:
            task = msgspec.json.decode(text)
        except msgspec.DecodeError:
            return text
        if not isinstance(task, dict):
            return text
        if isinstance(task.get("id"), str):
            task["id"] = self.new_id(task["id"])
        if not self._keeps_callbacks:
            task.pop("callback", None)
        if self._hosts and isinstance(task.get("targets"), list):
            task["targets"] = [self._target(target) for target in task["targets"]]
        return msgspec.json.encode(task)

    def _target(self, target: Any) -> Any:
        if isinstance(target, dict) and isinstance(target.get("host"), str):
            return {**target, "host": self._hosts.get(target["host"], target["host"])}
        if not isinstance(target, str):
            return target
        scheme, mark, rest = target.partition("://")
        start = f"{scheme}{mark}" if mark else ""
        rest = rest if mark else target
        end = next((place for place, sign in enumerate(rest) if sign in "/?#"), len(rest))
        host = rest[:end]
        return f"{start}{self._hosts.get(host, host)}{rest[end:]}"


def with_task(path: str, task_id: str) -> str:
    """Return the path of a request about a task, about another one."""
    named = _TASK.fullmatch(path)
    return f"{named[1]}{task_id}{named[3]}" if named else path


def _path_of(target: str) -> str:
    if target.startswith("/"):
        return target
    parts = urlsplit(target)
    if parts.scheme not in {"http", "https"}:
        raise RecordingError(f"{target[:60]!r} is no path")
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
