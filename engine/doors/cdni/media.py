"""Media types, and conditional requests: what RFC 8007 has of HTTP. Pure."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from engine.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

TYPE: Final = "application/cdni"
COMMAND: Final = "ci-trigger-command"
STATUS: Final = "ci-trigger-status"
COLLECTION: Final = "ci-trigger-collection"
_RANGE: Final = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*((?:;.*)?)")
_PARAMETER: Final = re.compile(r""";\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=\s*("[^"]*"|[^;\s]*)\s*""")
_TAG: Final = re.compile(r'(?:W/)?("[!#-~\x80-\xff]*")')


def media_type(payload: str) -> str:
    """Return the ``Content-Type`` of a payload of ours."""
    return f"{TYPE}; ptype={payload}"


def check_content_type(value: str | None) -> None:
    """Refuse a body of another kind than a command.

    Raises:
        RequestError: 415.
    """
    kind, parameters = _read(value or "")
    if kind != TYPE or parameters.get("ptype") != COMMAND:
        takes = media_type(COMMAND)
        said = f"not {value[:80]!r}" if value else "and the request has none"
        raise RequestError(415, f"content-type: takes {takes}, {said}", headers={"Accept-Post": takes})


def check_accept(value: str | None, payload: str) -> None:
    """Refuse a client that does not take what it would be answered.

    Args:
        value: of ``Accept``; several are joined; None: it takes anything.
        payload: of the answer.

    Raises:
        RequestError: 406.
    """
    if not value or not value.strip():
        return
    best, taken = -1, False
    for text in value.split(","):
        kind, parameters = _read(text)
        exactness = _exactness(kind, parameters, payload)
        if exactness > best:
            best, taken = exactness, _quality(parameters) > 0
    if not taken:
        raise RequestError(406, f"accept: the answer is {media_type(payload)}, not {value[:80]!r}")


def _exactness(kind: str, parameters: Mapping[str, str], payload: str) -> int:
    """Return how exactly a range names a payload of ours; -1: it does not."""
    if kind == "*/*":
        return 0
    if kind == "application/*":
        return 1
    if kind != TYPE:
        return -1
    if "ptype" not in parameters:
        return 2
    return 3 if parameters["ptype"] == payload else -1


def _quality(parameters: Mapping[str, str]) -> float:
    try:
        return float(parameters.get("q", "1"))
    except ValueError:
        return 0


def _read(text: str) -> tuple[str, dict[str, str]]:
    """Return a media type, or range, in lower case, and its parameters; empty: it is none."""
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        return "", {}
    parameters = {name.lower(): value.strip('"') for name, value in _PARAMETER.findall(match[2])}
    return match[1].lower(), parameters


def tag_of(body: bytes) -> str:
    """Return the ``ETag`` of a body."""
    return f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


def is_named(field: str, tag: str) -> bool:
    """Tell whether ``If-Match`` or ``If-None-Match`` names an entity-tag of ours."""
    return field.strip() == "*" or tag in _TAG.findall(field)
