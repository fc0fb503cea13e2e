"""Regular expressions that operators write: only those that are quick to match, with whatever. Pure.

Python's `re` goes back and tries again: of a group that repeats, or of many repeats in a row, the tries grow
with a power of the length, or exponentially. Alerts are matched in the loop's thread.
"""

from __future__ import annotations

import re
from re import _parser  # type: ignore[attr-defined] # the standard library's, without a public name
from typing import Any, Final, TypeAlias

MATCHED_MAX_CHARS: Final = 256  #: of a value; what comes after them is not looked at
CHOICES_MAX: Final = 2
_TAKES: Final = (
    "takes text, '.', '\\d', '[a-z]', '|' and groups, with '*', '+', '?' or '{2}' after one character, never "
    f"after a group; at most {CHOICES_MAX} of these, and of groups with '|', beside a '.*' at the end"
)
_ONE: Final = frozenset({"LITERAL", "NOT_LITERAL", "ANY", "ANY_ALL", "IN"})
_REPEATS: Final = frozenset({"MAX_REPEAT", "MIN_REPEAT"})
_Items: TypeAlias = Any  #: of the parser, which is not typed: pairs of an operation and what goes with it


def pattern_of(text: str) -> re.Pattern[str]:
    """Return the pattern of *text*, to be matched with `MATCHED_MAX_CHARS` at most.

    Raises:
        ValueError: it is no regular expression, or none that is quick; says what it takes.
    """
    try:
        pattern = re.compile(text, re.DOTALL)
        choices = _choices_of(_parser.parse(text, re.DOTALL), is_last=True)
    except (re.error, RecursionError, OverflowError) as exc:
        raise ValueError(f"is no regular expression: {exc}") from None
    if choices > CHOICES_MAX:
        raise ValueError(f"is a regular expression that may be slow; it {_TAKES}")
    return pattern


def _choices_of(items: _Items, *, is_last: bool) -> int:
    """Return how many choices in a row are tried against each other.

    Args:
        items: what the parser made of a pattern, or of a part of it.
        is_last: nothing comes after them.
    """
    choices = 0
    for at, (kind, value) in enumerate(items, 1):
        name, is_end = str(kind), is_last and at == len(items)
        if name == "BRANCH":
            choices += max(_choices_of(one, is_last=is_end) for one in value[1]) + (not is_end)
        elif name == "SUBPATTERN" and not value[2]:  # it takes no flag away
            choices += _choices_of(value[-1], is_last=is_end)
        elif name in _REPEATS and len(value[2]) == 1 and str(value[2][0][0]) in _ONE:
            is_rest = is_end and str(value[2][0][0]) == "ANY"  # matches whatever is left
            choices += not is_rest and value[0] != value[1]
        elif name not in _ONE and name != "AT":
            raise ValueError(f"is a regular expression that is not taken; it {_TAKES}")
    return choices
