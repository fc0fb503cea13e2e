"""What a cache says in an answer, in its own words: bounded, and without control characters. Pure."""

from __future__ import annotations

import re
from typing import Final

from engine.base.phrases import phrase_of

SAID_MAX: Final = 200  #: characters
_UNSHOWN: Final = re.compile(rb"(?is)<(script|style|head)\b.*?(</\1\s*>|$)|<[^>]*(>|$)")
_CODED: Final = re.compile(rb"(?i)\r\ncontent-encoding:[ \t]*(?!identity)[a-z]")
_CHUNKED: Final = re.compile(rb"(?i)\r\ntransfer-encoding:[^\r]*chunked")


def said_in(text: bytes) -> str:
    """Return the reason phrase of an answer; where that is the usual one, the text of its page.

    Args:
        text: the head through its empty line, and the beginning of the body.
    """
    head, _, body = text.partition(b"\r\n\r\n")
    line = head.partition(b"\r\n")[0]
    _, _, rest = line.partition(b" ")
    status, _, phrase = rest.partition(b" ")
    said = _clean(phrase)
    if said.lower() not in {"", _usual(status).lower()}:
        return said
    if _CODED.search(head):
        return ""
    if _CHUNKED.search(head):
        body = body.partition(b"\r\n")[2].partition(b"\r\n")[0]
    return _clean(_UNSHOWN.sub(b" ", body))


def _usual(status: bytes) -> str:
    try:
        return phrase_of(int(status))
    except ValueError:
        return ""


def _clean(text: bytes) -> str:
    shown = text.decode("utf-8", "replace")
    words = " ".join("".join(char if char.isprintable() else " " for char in shown).split())
    return words if len(words) <= SAID_MAX else f"{words[: SAID_MAX - 1]}…"
