"""What the error about a key says beyond what is wrong: the nearest known name, and what the key takes."""

from __future__ import annotations

import difflib
import re
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, Literal, get_args, get_origin

import msgspec

from engine.config.doors import DOORS
from engine.config.tables import TABLES, Config

if TYPE_CHECKING:
    from collections.abc import Sequence


_COMPARED_MAX: Final = 100
_NAMED_MAX: Final = 40
_GIVEN: Final = re.compile("invalid enum value '(.*)'", re.IGNORECASE)  #: msgspec's words


def did_you_mean(key: str, known: Sequence[str]) -> str:
    """Return the end of a sentence that names the known word nearest to *key*, or nothing."""
    alike = sorted(known, key=lambda word: abs(len(word) - len(key)))[:_COMPARED_MAX]
    close = difflib.get_close_matches(key, alike, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def nearest(key: str, known: Sequence[str]) -> str:
    """Return the end of a sentence that names the known word nearest to *key*, or the known words.

    Of very many only those of about the same length are compared, and some named: 50 µs a word.
    """
    meant = did_you_mean(key, known)
    if meant:
        return meant
    more = f" and {len(known) - _NAMED_MAX} more" if len(known) > _NAMED_MAX else ""
    return f"; known: {', '.join(known[:_NAMED_MAX]) or 'none'}{more}"


def say_where(message: str) -> str:
    """Put the place of msgspec's *message* first.

    ``Expected `int`, got `str` - at `$.engine.due_s``` becomes ``engine.due_s: expected `int`, got `str```.
    """
    text, _, path = message.partition(" - at `$.")
    path = path.rstrip("`")
    area, _, key = re.sub(r"\[.*?\]", "", path).rpartition(".")
    tables = list(DOORS.values()) if area == "door" else [TABLES.get(area, Config)]
    kinds = {field.name: field.type for table in tables for field in msgspec.structs.fields(table)}
    return f"{path}: {explain(text, kinds.get(key))}" if path else message


def explain(problem: str, kind: Any) -> str:
    """Return *problem* in lower case, and which words a key of type *kind* takes when those are a few."""
    kind = get_args(kind)[0] if get_origin(kind) is list else kind
    parts = get_args(kind) if get_origin(kind) is UnionType else (kind,)
    words = [word for part in parts if get_origin(part) is Literal for word in get_args(part)]
    if words and int in parts:
        words.insert(0, "a whole number")
    given = _GIVEN.search(problem)
    meant = did_you_mean(given[1], [word for word in words if isinstance(word, str)]) if given else ""
    takes = f"; takes {', '.join(words)}{meant}" if words else ""
    return f"{problem[0].lower()}{problem[1:]}{takes}"
