r"""Lists of tags as clients write them: words, or a regular expression that a cache was to match them by.

Of such an expression only the forms that stand for a list are taken: ``a|b``, ``(^|,)(a|b)(,|$)``,
``((^|,)a(,|$))|((^|,)b(,|$))``, with ``\`` before what means something in a pattern; ``.*`` is all tags.
Nothing is matched, so no expression takes long: one pass over its signs.
"""

from __future__ import annotations

import re
from typing import Final

from engine.errors import RequestError

_NESTED_MAX: Final = 16
_SEPARATOR: Final = r"(?:\\?[, ]|\\s|\[[\\s, ]+\])"
_BORDER: Final = re.compile(
    rf"\((?:\?:)?(?:\^\|{_SEPARATOR}|{_SEPARATOR}\|\^|{_SEPARATOR}\|\$|\$\|{_SEPARATOR})\)"
)
_ALL: Final = frozenset({".*", "^.*$", "^.*", ".*$", ".+", "(.*)"})
_PATTERN_SIGNS: Final = re.compile(r"[|()^$\\*\[\]]")
_WORDS: Final = re.compile(r"[\s,]+")
_SPECIAL: Final = frozenset("*+?[]{}^$")


def words(text: str) -> list[str]:
    """Return the tags of a list that has commas or spaces between them, each once."""
    return list(dict.fromkeys(word for word in _WORDS.split(text) if word))


def of_field(text: str, name: str) -> list[str] | None:
    """Return the tags of a field that some clients write as a list and others as a pattern; None: all.

    Raises:
        RequestError: see `of_pattern`.
    """
    return of_pattern(text, name) if _PATTERN_SIGNS.search(text) else words(text)


def of_pattern(text: str, name: str) -> list[str] | None:
    """Return the tags that a pattern stands for, each once; None: all.

    Args:
        text: the pattern.
        name: of its field, for the error.

    Raises:
        RequestError: 400, it is more than a list of tags.
    """
    text = text.strip()
    if text in _ALL:
        return None
    found: list[str] = []
    depth = 0
    tag: list[str] = []
    is_closed = False  # only a border or the end of the alternative may come
    at, text = 0, _BORDER.sub("", text)
    while at < len(text):
        sign = text[at]
        at += 1
        if sign == "|" or (sign == "^" and not tag) or (sign == "$" and text[at : at + 1] in {"", "|", ")"}):
            if sign == "|":
                found.append("".join(tag))
                tag, is_closed = [], False
        elif sign == "(" and not tag and not is_closed and depth < _NESTED_MAX:
            depth += 1
            at += 2 * text.startswith("?:", at)
        elif sign == ")" and depth:
            depth -= 1
            is_closed = True
        elif is_closed or sign in _SPECIAL or sign in "()" or not "!" <= sign <= "~" or sign == ",":
            raise _refusal(name)
        elif sign == "\\":
            if at == len(text) or text[at].isalnum():
                raise _refusal(name)
            tag.append(text[at])
            at += 1
        elif sign == "." and text[at : at + 1] in {"*", "+", "?", "{"}:
            raise _refusal(name)
        else:
            tag.append(sign)
    if depth:
        raise _refusal(name)
    return list(dict.fromkeys(word for word in (*found, "".join(tag)) if word))


def _refusal(name: str) -> RequestError:
    return RequestError(400, f"{name}: takes a list of tags, such as a|b or (^|,)(a|b)(,|$), or .* for all")
