"""CI/T Commands (RFC 8007, section 5.1.1): what a body asks for, checked. Pure.

Names that are not known are left alone, and kept in what the client is shown (section 5.2.1): a trigger is
stored as its client wrote it. Nothing of what is not known is decoded, whatever its size.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from engine.errors import RequestError
from engine.intake.task_body import TARGETS_MAX

URLS: Final = ("content.urls", "metadata.urls")
PATTERNS: Final = ("content.patterns", "metadata.patterns")
CCID: Final = "content.ccid"
SUBJECTS: Final = (*URLS, *PATTERNS, CCID)  #: what a trigger is about
TYPES: Final = ("purge", "invalidate", "preposition")
COMMAND_MAX_BYTES: Final = 2 * 1024 * 1024  #: 10,000 URLs of 200 characters; 10 ms of decoding
_QUOTES_MAX: Final = 12 * TARGETS_MAX  #: in a command: a pattern with all of its names has 8
_PID: Final = re.compile(r"AS[0-9]{1,10}:[!-~]{1,64}")
_CANCEL_MAX: Final = 1000
_PROBLEM: Final = re.compile(r"(.*?)(?: - at `\$\.?([^`]*)`)?", re.DOTALL)  # of msgspec: what, and its path
encode = msgspec.json.encode


class Pattern(msgspec.Struct, frozen=True):
    """A PatternMatch (section 5.2.4); it is written as it came, without names that are not known."""

    pattern: str
    is_cased: bool | UnsetType = msgspec.field(default=UNSET, name="case-sensitive")
    has_query: bool | UnsetType = msgspec.field(default=UNSET, name="match-query-string")


class Specification(msgspec.Struct, frozen=True):
    """A Trigger Specification (section 5.2.1): what is known of it."""

    type: str
    content_urls: list[str] = msgspec.field(default_factory=list, name="content.urls")
    metadata_urls: list[str] = msgspec.field(default_factory=list, name="metadata.urls")
    content_patterns: list[Pattern] = msgspec.field(default_factory=list, name="content.patterns")
    metadata_patterns: list[Pattern] = msgspec.field(default_factory=list, name="metadata.patterns")
    content_ccid: list[str] = msgspec.field(default_factory=list, name=CCID)

    def named(self, name: str) -> list[Any]:
        """Return what it has under one of `SUBJECTS`."""
        found: list[Any] = getattr(self, name.replace(".", "_"))
        return found

    @property
    def count(self) -> int:
        """How many URLs, patterns and ids it has."""
        return sum(len(self.named(name)) for name in SUBJECTS)


class _Type(msgspec.Struct):
    """All that is known of a trigger whose type is not."""

    type: str


class _Body(msgspec.Struct):
    """A body; what is in a trigger depends on its type."""

    path: list[str] = msgspec.field(name="cdn-path")
    trigger: msgspec.Raw | UnsetType = UNSET
    cancel: list[str] | UnsetType = UNSET


class Command(msgspec.Struct, frozen=True):
    """A command: one of the two is asked for."""

    path: list[str]  #: ``cdn-path``
    trigger: Specification | None = None
    spec: msgspec.Raw = msgspec.Raw(b"{}")  #: the trigger as it came
    cancel: list[str] = []  #: URLs of triggers


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_type = msgspec.json.Decoder(_Type).decode
_decode_specification = msgspec.json.Decoder(Specification).decode


def read_command(body: bytes, cdn_id: str) -> Command:
    """Return what a body asks for.

    Args:
        body: as the client sent it.
        cdn_id: of this CDN: a command that has come by it is refused.

    Raises:
        RequestError: 400, 403, 413; the text names the field and what it takes.
    """
    _check_size(body)
    try:
        body.decode()  # what is not decoded below is not looked at
        fields = _decode_body(body)
    except msgspec.ValidationError as exc:
        raise _mistyped(exc, "", "takes an object with trigger or cancel, and cdn-path") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        why = "too many levels" if isinstance(exc, RecursionError) else exc
        raise RequestError(400, f"the body is not JSON: {why}") from None
    _check_path(fields.path, cdn_id)
    if (fields.trigger is UNSET) == (fields.cancel is UNSET):
        raise RequestError(400, "takes exactly one of trigger and cancel")
    if fields.trigger is UNSET:
        assert fields.cancel is not UNSET
        return Command(fields.path, cancel=_some(fields.cancel, "cancel"))
    return Command(fields.path, specification(fields.trigger), fields.trigger)


def specification(spec: msgspec.Raw) -> Specification:
    """Return what is known of a Trigger Specification, checked.

    Raises:
        RequestError: 400, 413.
    """
    takes = f"takes an object with a type (one of {', '.join(TYPES)}) and what it is about"
    try:
        kind = _decode_type(spec).type
        if kind not in TYPES:
            return _unknown(spec, kind)
        trigger = _decode_specification(spec)
    except msgspec.ValidationError as exc:
        raise _mistyped(exc, "trigger", takes) from None
    if kind == "preposition":
        for name in PATTERNS:
            if trigger.named(name):
                raise _refuse(name, "a preposition takes URLs: nobody can fetch a pattern")
    if not trigger.count:
        raise _refuse("trigger", f"takes one or more of {', '.join(SUBJECTS)}, that are not empty")
    if trigger.count > TARGETS_MAX:
        detail = (
            f"trigger: has {trigger.count:,} URLs, patterns and ids, at most {TARGETS_MAX:,}; send several"
        )
        raise RequestError(413, detail)
    return trigger


def _unknown(spec: msgspec.Raw, kind: str) -> Specification:
    """Return a trigger of another type, which becomes one that has failed (section 5.2.2)."""
    try:
        return _decode_specification(spec)
    except msgspec.ValidationError:  # nobody knows what such a type means by these names
        return Specification(kind)


def _check_size(body: bytes) -> None:
    """Refuse what takes long to decode: that holds up the whole worker."""
    if len(body) > COMMAND_MAX_BYTES:
        raise RequestError(413, f"the command is over {COMMAND_MAX_BYTES:,} bytes; send several")
    if body.count(b'"') > _QUOTES_MAX:
        raise RequestError(
            413, f"the command has over {_QUOTES_MAX // 2:,} texts, names included; send several"
        )


def _check_path(path: list[str], cdn_id: str) -> None:
    for place, pid in enumerate(_some(path, "cdn-path")):
        if not _PID.fullmatch(pid):
            raise _refuse(f"cdn-path[{place}]", f"{pid[:80]!r} is no CDN Provider ID, such as AS64496:1")
    if cdn_id in path:
        detail = f"cdn-path: {cdn_id} is this CDN, the command has come round in a loop"
        raise RequestError(403, detail, field="cdn-path")


def _some(texts: list[str], name: str) -> list[str]:
    if not 1 <= len(texts) <= _CANCEL_MAX:
        raise _refuse(name, f"takes 1 to {_CANCEL_MAX} texts, got {len(texts)}")
    return texts


def _mistyped(exc: msgspec.ValidationError, within: str, takes: str) -> RequestError:
    """Return the refusal of what has another form; *takes* is said of what is around."""
    match = _PROBLEM.fullmatch(str(exc))
    assert match is not None
    why, path = match[1], match[2] or ""
    where = ".".join(part for part in (within if not path or path == "type" else "", path) if part)
    text = f"{why[:1].lower()}{why[1:]}"
    return _refuse(where, text if path else f"{takes}; {text}")


def _refuse(where: str, why: str) -> RequestError:
    return RequestError(400, f"{where or 'the body'}: {why}", field=where)
