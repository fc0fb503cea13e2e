"""CI/T Commands (RFC 8007, section 5.1.1): what a body asks for, checked. Pure.

Names that are not known are left alone, and kept in what the client is shown (section 5.2.1).
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from engine.errors import RequestError
from engine.intake.task_body import TARGETS_MAX

URLS: Final = ("content.urls", "metadata.urls")
PATTERNS: Final = ("content.patterns", "metadata.patterns")
CCID: Final = "content.ccid"
SUBJECTS: Final = (*URLS, *PATTERNS, CCID)  #: what a trigger is about
TYPES: Final = ("purge", "invalidate", "preposition")
_PID: Final = re.compile(r"AS[0-9]{1,10}:[!-~]{1,64}")
_CANCEL_MAX: Final = 1000
_decode = msgspec.json.Decoder().decode
encode = msgspec.json.encode


class Command(msgspec.Struct, frozen=True):
    """A command: one of the two is asked for."""

    path: list[str]  #: ``cdn-path``
    trigger: dict[str, Any] | None = None
    cancel: list[str] = []  #: URLs of triggers


def read_command(body: bytes, cdn_id: str) -> Command:
    """Return what a body asks for.

    Args:
        body: as the client sent it.
        cdn_id: of this CDN: a command that has come by it is refused.

    Raises:
        RequestError: 400, 403, 413; the text names the field and what it takes.
    """
    try:
        fields = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        why = "too many levels" if isinstance(exc, RecursionError) else exc
        raise RequestError(400, f"the body is not JSON: {why}") from None
    if not isinstance(fields, dict):
        raise RequestError(400, "the body: takes an object with trigger or cancel, and cdn-path")
    path = _path_of(fields, cdn_id)
    if ("trigger" in fields) == ("cancel" in fields):
        raise RequestError(400, "takes exactly one of trigger and cancel")
    if "cancel" in fields:
        return Command(path, cancel=_texts(fields, "cancel", _CANCEL_MAX))
    trigger = fields["trigger"]
    if not isinstance(trigger, dict):
        raise RequestError(400, "trigger: takes an object")
    _check_trigger(trigger)
    return Command(path, trigger)


def _path_of(fields: dict[str, Any], cdn_id: str) -> list[str]:
    path = _texts(fields, "cdn-path", _CANCEL_MAX)
    for place, pid in enumerate(path):
        if not _PID.fullmatch(pid):
            raise _refuse(f"cdn-path[{place}]", f"{pid[:80]!r} is no CDN Provider ID, such as AS64496:1")
    if cdn_id in path:
        detail = f"cdn-path: {cdn_id} is this CDN, the command has come round in a loop"
        raise RequestError(403, detail, field="cdn-path")
    return path


def _check_trigger(trigger: dict[str, Any]) -> None:
    kind = trigger.get("type")
    if not isinstance(kind, str):
        raise _refuse("trigger.type", f"takes one of {', '.join(TYPES)}")
    if kind not in TYPES:
        return  # nobody knows what is in it: it becomes a trigger that has failed (section 5.2.2)
    for name in (*URLS, CCID):
        if name in trigger:
            _texts(trigger, name, None)
    for name in PATTERNS:
        if name in trigger:
            _check_patterns(trigger[name], name, is_allowed=kind != "preposition")
    count = sum(len(trigger.get(name, ())) for name in SUBJECTS)
    if not count:
        raise _refuse("trigger", f"takes one or more of {', '.join(SUBJECTS)}, that are not empty")
    if count > TARGETS_MAX:
        detail = f"trigger: has {count:,} URLs, patterns and ids, at most {TARGETS_MAX:,}; send several"
        raise RequestError(413, detail)


def _check_patterns(patterns: object, name: str, *, is_allowed: bool) -> None:
    if not is_allowed:
        raise _refuse(name, "a preposition takes URLs: nobody can fetch a pattern")
    if not isinstance(patterns, list):
        raise _refuse(name, "takes a list of objects with a pattern")
    for place, pattern in enumerate(patterns):
        where = f"{name}[{place}]"
        if not isinstance(pattern, dict) or not isinstance(pattern.get("pattern"), str):
            raise _refuse(where, "takes an object with a pattern")
        for flag in ("case-sensitive", "match-query-string"):
            if not isinstance(pattern.get(flag, False), bool):
                raise _refuse(f"{where}.{flag}", "takes true or false")


def _texts(fields: dict[str, Any], name: str, most: int | None) -> list[str]:
    """Return a list of texts; with *most* it may not be empty."""
    texts = fields.get(name)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise _refuse(name, "takes a list of texts")
    if most is not None and not 1 <= len(texts) <= most:
        raise _refuse(name, f"takes 1 to {most} of them, got {len(texts)}")
    return texts


def _refuse(where: str, why: str) -> RequestError:
    return RequestError(400, f"{where}: {why}", field=where)
