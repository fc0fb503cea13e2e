r"""The field ``Cache-Group-Invalidation`` of an origin's answer (RFC 9875), read strictly. Pure.

It is a List of Strings (RFC 9651): ``"products", "home";at=1``. What is no such list is not looked at as a
whole, as RFC 9651 has it: half of a list that somebody else wrote is nothing that its origin has said.

A group is purged as a surrogate key. A key is one word of a header, so the signs that end words, or have to
be escaped in a String, stand in it as ``%20``, ``%2C``, ``%22`` and ``%5C``, as the lines of ``purgeline
render varnish`` index them.
"""

from __future__ import annotations

import re
from typing import Final

from engine.errors import RequestError

FIELD: Final = "Cache-Group-Invalidation"
FIELD_MAX_CHARS: Final = 16_384  #: RFC 9875 asks for room for 32 groups of 32 characters
SAFE_METHODS: Final = frozenset(
    {"GET", "HEAD", "OPTIONS", "TRACE", "PRI", "PROPFIND", "QUERY", "REPORT", "SEARCH"}
)
"""Those of IANA's registry of methods; the field means nothing in what they are answered with."""

KEY_MAX_CHARS: Final = 1024  #: of a surrogate key, which a group is purged as
_SHOWN_CHARS: Final = 40
_EXAMPLE: Final = 'such as "products", "home"'
_STRING: Final = r'"(?:[ !#-\[\]-~]|\\["\\])*+"'
_BARE: Final = "|".join(
    (
        _STRING,
        r"-?[0-9]{1,12}\.[0-9]{1,3}",
        r"-?[0-9]{1,15}",
        r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*+",
        r":[A-Za-z0-9+/]*+={0,2}:",
        r"\?[01]",
        r"@-?[0-9]{1,15}",
        r'%"(?:[ !#$&-~]|%[0-9a-f]{2})*+"',
    )
)
_MEMBER: Final = re.compile(rf"({_STRING})(?:; *+[a-z*][a-z0-9_.*-]*+(?:=(?:{_BARE}))?)*+")
_BETWEEN: Final = re.compile(r"[ \t]*+,[ \t]*+")
_ESCAPED: Final = re.compile(r'\\(["\\])')
_NO_LETTER: Final = re.compile(r'[ ,"\\]')


def groups_of(value: str) -> list[str]:
    """Return the groups of a field, each once, in its order.

    Args:
        value: of the field; of one that stands in several lines, these with commas between them.

    Raises:
        RequestError: 422, it is no List of Strings, or too long.
    """
    if len(value) > FIELD_MAX_CHARS:
        raise RequestError(422, f"{FIELD}: is {len(value)} characters long, at most {FIELD_MAX_CHARS}")
    value = value.strip(" ")
    groups: dict[str, None] = {}
    at = 0
    while value:
        member = _MEMBER.match(value, at)
        if member is None:
            raise _refusal(value, at)
        groups[_ESCAPED.sub(r"\1", member[1][1:-1])] = None
        if member.end() == len(value):
            break
        comma = _BETWEEN.match(value, member.end())
        if comma is None or comma.end() == len(value):
            raise _refusal(value, member.end())
        at = comma.end()
    return list(groups)


def key_of(group: str) -> str:
    """Return the surrogate key of a group's objects; empty: it would be longer than a key may be."""
    key = _NO_LETTER.sub(lambda sign: f"%{ord(sign[0]):02X}", group)
    return key if len(key) <= KEY_MAX_CHARS else ""


def is_unsafe(method: str) -> bool:
    """Tell whether the answer to a request with this method may invalidate."""
    return method not in SAFE_METHODS


def _refusal(value: str, at: int) -> RequestError:
    shown = value[at : at + _SHOWN_CHARS]
    detail = f"{FIELD}: takes a list of strings, {_EXAMPLE}; from character {at} on it is none: {shown!r}"
    return RequestError(422, detail)
