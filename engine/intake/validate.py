"""From a request body to a `Task`, or a `RequestError`. Pure: no I/O, no state, no clock but its own.

The order is shape (JSON and types), then names (layers, nodes), then every target. The first thing
wrong is the answer; nothing has been stored by then.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import os
import re
import time
from typing import TYPE_CHECKING, Final, Literal, get_args, get_origin

import msgspec

from engine.errors import RequestError
from engine.intake.urls import are_plain, normalise_authority, normalise_key, normalise_url, plain_start
from engine.tasks.plan import subtask_count
from engine.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.intake.plan import Topology

TARGETS_MAX: Final = 10_000
DUE_MAX_S: Final = 7 * 86400
ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PROBLEM = re.compile(r"(.*?)(?: - at `\$\.?([^`]*)`)?", re.DOTALL)  # of msgspec: what, and its JSON path


class KeyTarget(msgspec.Struct, forbid_unknown_fields=True):
    """A surrogate key of one host."""

    host: str
    key: str


class TaskBody(msgspec.Struct, forbid_unknown_fields=True):
    """``POST /v1/engine/task`` as the client sends it."""

    targets: list[str | KeyTarget]
    id: str | None = None
    action: Literal["purge", "prefetch"] = "purge"
    kind: Literal["url", "prefix", "regex", "key", "host"] = "url"
    soft: bool = False
    prefetch: bool = False
    layers: list[str] = []
    nodes: list[str] = []
    callback: str | None = None
    due_s: float | None = None


_CHOICES: Final = {
    field.name: ", ".join(get_args(field.type))
    for field in msgspec.structs.fields(TaskBody)
    if get_origin(field.type) is Literal
}
_decode = msgspec.json.Decoder(TaskBody).decode
_encode = msgspec.json.Encoder().encode


def all_hosts(host: str) -> bool:  # noqa: ARG001 - the rule that takes every host
    """Allow every host: for what was checked when it was accepted."""
    return True


class Validator:
    """Checks bodies against one configuration.

    Args:
        topology: the configured nodes.
        due_s: seconds until a task without ``due_s`` is due.
        allows_callback: returns why a callback URL is refused, or None.
        is_ours: tells whether an id belongs to this worker; None: all do. New ids always do.
    """

    def __init__(
        self,
        topology: Topology,
        *,
        due_s: float,
        allows_callback: Callable[[str], str | None],
        is_ours: Callable[[str], bool] | None = None,
    ) -> None:
        self._topology = topology
        self._due_s = due_s
        self._allows_callback = allows_callback
        self._is_ours = is_ours
        self._salt = os.urandom(5).hex()
        self._counter = itertools.count(int.from_bytes(os.urandom(2), "big"))

    def task(self, body: bytes, allows_host: Callable[[str], bool]) -> Task:
        """Return the task that *body* asks for.

        Args:
            body: UTF-8 JSON.
            allows_host: whether the client may purge a host.

        Raises:
            RequestError: 400 not JSON, 422 anything wrong in it; the text names the field.
        """
        asked = decode(body)
        created_at = time.time()
        task = self._make(
            asked,
            body,
            allows_host,
            task_id=asked.id or self._new_id(created_at),
            created_at=created_at,
        )
        if asked.callback is not None and (reason := self._allows_callback(asked.callback)):
            raise RequestError(422, f"callback: {reason}", field="callback")
        return task

    def replay(self, task_id: str, body: bytes, created_at: float, due_s: float) -> Task:
        """Return a task that the journal holds; it was checked when it was accepted.

        Raises:
            RequestError: the configuration has changed so that it cannot be done any more.
        """
        task = self._make(decode(body), body, all_hosts, task_id=task_id, created_at=created_at)
        task.due_s = due_s
        task.due_at = created_at + due_s
        return task

    def _new_id(self, now: float) -> str:
        """Ids sort by time; the salt keeps two processes apart."""
        while True:
            made = f"{int(now * 1000):011x}{self._salt}{next(self._counter) & 0xFFFFFF:06x}"
            if self._is_ours is None or self._is_ours(made):
                return made

    def _make(
        self,
        asked: TaskBody,
        body: bytes,
        allows_host: Callable[[str], bool],
        *,
        task_id: str,
        created_at: float,
    ) -> Task:
        _check_fields(asked)
        plan = self._topology.plan(asked.layers, asked.nodes)
        self._topology.check(plan, asked.action, asked.kind)
        targets = _targets(asked, allows_host)
        task = Task(
            id=task_id,
            action=asked.action,
            kind=asked.kind,
            targets=targets,
            soft=asked.soft,
            prefetch=asked.prefetch,
            callback=asked.callback,
            due_s=self._due_s if asked.due_s is None else asked.due_s,
            body=body,
            digest=_digest(asked) if asked.id else b"",
            created_at=created_at,
        )
        task.plan = plan
        task.total = subtask_count(plan, len(targets), asked.action, prefetch=asked.prefetch)
        return task


def decode(body: bytes) -> TaskBody:
    """Return the decoded body.

    Raises:
        RequestError: 400 when it is not JSON, 422 when a field is unknown, missing or of the wrong
            type.
    """
    try:
        return _decode(body)
    except msgspec.ValidationError as exc:
        raise _refusal(str(exc)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise RequestError(400, f"the body is not valid JSON: {exc}") from None


def _refusal(problem: str) -> RequestError:
    """Say what the field takes, where msgspec says only what is wrong with it."""
    match = _PROBLEM.fullmatch(problem)
    assert match is not None
    what, field = match[1], match[2] or ""
    if what.startswith("Object contains unknown field"):
        detail = _unknown_field(what.split("`")[1], KeyTarget if field else TaskBody)
    elif what.startswith("Object missing required field"):
        detail = f"field {what.split('`')[1]!r} is missing"
    elif field in _CHOICES:
        detail = f"takes {_CHOICES[field]}; {what[0].lower()}{what[1:]}"
    elif field.startswith("targets["):
        detail = f"takes a string, or an object of host and key; {what[0].lower()}{what[1:]}"
    else:
        detail = what[0].lower() + what[1:]
    return RequestError(422, f"{field or 'body'}: {detail}", field=field)


def _unknown_field(name: str, kind: type[msgspec.Struct]) -> str:
    known = [field.name for field in msgspec.structs.fields(kind)]
    close = difflib.get_close_matches(name[:64], known, n=1, cutoff=0.5)  # its time grows with the length
    return f"unknown field {name[:64]!r}; " + (
        f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
    )


def _check_fields(asked: TaskBody) -> None:
    if asked.id is not None and not ID.fullmatch(asked.id):
        raise RequestError(422, "id: takes 1-64 characters of A-Z a-z 0-9 . _ -", field="id")
    if not 1 <= len(asked.targets) <= TARGETS_MAX:
        raise RequestError(
            422, f"targets: takes 1-{TARGETS_MAX} targets, got {len(asked.targets)}", field="targets"
        )
    if asked.due_s is not None and not 0 < asked.due_s <= DUE_MAX_S:
        raise RequestError(422, f"due_s: takes seconds, more than 0 and at most {DUE_MAX_S}", field="due_s")
    if asked.action == "prefetch":
        if asked.kind != "url":
            raise RequestError(422, "kind: a prefetch takes kind 'url' only", field="kind")
        if asked.soft or asked.prefetch:
            field = "soft" if asked.soft else "prefetch"
            raise RequestError(422, f"{field}: is for purges; this task is a prefetch already", field=field)
    elif asked.prefetch and asked.kind != "url":
        raise RequestError(422, "prefetch: only a purge by url knows what to fetch again", field="prefetch")


def _targets(asked: TaskBody, allows_host: Callable[[str], bool]) -> list[str]:
    """Return the normalised targets, each once, in the client's order.

    Nearly all URLs are in normal form already, and of the same site as the one before: those cost one
    comparison each.
    """
    targets = asked.targets
    are_urls = asked.kind == "url"
    all_plain = are_urls and are_plain(targets)
    normalise = _BY_KIND[asked.kind]
    found: list[str] = []
    start = ""  # of the URLs that need no look at all
    allowed = None
    for index, target in enumerate(targets):
        is_plain = all_plain or (are_urls and are_plain([target]))  # an odd one must not cost the others
        if is_plain and start and target.startswith(start):  # type: ignore[union-attr]
            found.append(target)  # type: ignore[arg-type]
            continue
        text, host = target, ""
        if is_plain:
            start, host = plain_start(target)  # type: ignore[arg-type]
        if not host:
            text, host = normalise(target, f"targets[{index}]")
        if host != allowed:
            if not allows_host(host):
                raise RequestError(
                    422,
                    f"targets[{index}]: host {host!r} is outside the sites that may be purged",
                    field=f"targets[{index}]",
                )
            allowed = host
        found.append(text)  # type: ignore[arg-type]
    return list(dict.fromkeys(found)) if len(found) > 1 else found


def _url(target: str | KeyTarget, where: str) -> tuple[str, str]:
    if not isinstance(target, str):
        raise RequestError(422, f"{where}: takes a URL; a host and key go with kind 'key'", field=where)
    return normalise_url(target, where)


def _prefix(target: str | KeyTarget, where: str) -> tuple[str, str]:
    text, host = _url(target, where)
    return text.rstrip("*"), host


def _regex(target: str | KeyTarget, where: str) -> tuple[str, str]:
    if not isinstance(target, str):
        return _url(target, where)
    return normalise_url(target, where, keep_fragment=True)


def _key(target: str | KeyTarget, where: str) -> tuple[str, str]:
    if isinstance(target, str):
        host, slash, key = target.partition("/")
        if not slash:
            raise RequestError(422, f"{where}: takes host/key, or an object of host and key", field=where)
        return normalise_key(host, key, where)
    return normalise_key(target.host, target.key, where)


def _host(target: str | KeyTarget, where: str) -> tuple[str, str]:
    if isinstance(target, str) and "://" in target:
        text, host = normalise_url(target, where)
        if text.split("/", 3)[3]:
            raise RequestError(422, f"{where}: takes a host; a path goes with kind 'prefix'", field=where)
        return host, host
    if not isinstance(target, str):
        return _url(target, where)
    host = normalise_authority(target, where)
    return host, host


_BY_KIND: Final[dict[str, Callable[[str | KeyTarget, str], tuple[str, str]]]] = {
    "url": _url,
    "prefix": _prefix,
    "regex": _regex,
    "key": _key,
    "host": _host,
}


def _digest(asked: TaskBody) -> bytes:
    """Two bodies are the same when their fields are, whatever the order and white space."""
    return hashlib.blake2b(_encode(asked), digest_size=16).digest()
