"""How a table fits a terminal: no word of it is broken. Pure.

A table that is too wide loses columns, those that tell least first (`LESS`); one that is still too wide is
shown as blocks, a row each. Columns of sentences (`SENTENCES`) break between their words, others do not.
"""

from __future__ import annotations

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

LESS: Final = (
    *("verified_at", "stale"),
    *("evidence", "oldest_delayed_s", "in_flight", "pid", "version", "listen", "action", "kind", "driver"),
    *("cancelled", "created_at", "waiting", "layer", "refused", "host", "lag_s", "absent", "total"),
    *("counter", "acked"),
)
SENTENCES: Final = frozenset({"last_error", "reason", "why", "note", "nodes", "parents", "outcome", "remedy"})
_EDGES: Final = 2  # a space at each end
_GAP: Final = 1
_INDENT: Final = "  "


def width_of(text: str) -> int:
    """Return how many characters of a terminal *text* takes: letters of some scripts take two."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width  # noqa: PLC0415 - an extension, for few texts

    return sum(2 if east_asian_width(letter) in "WF" else not combining(letter) for letter in text)


def header_of(column: str, widest: int) -> str:
    """Return the header of a column: its words on lines of their own where its cells are narrower."""
    words = column.replace("_", " ")
    width = max(widest, *map(len, words.split()))
    import textwrap  # noqa: PLC0415 - only a terminal pays for it

    return textwrap.fill(words, width, break_long_words=False)


def fitting(cells: Mapping[str, Sequence[str]], width: int) -> dict[str, int]:
    """Return the columns that a terminal of *width* has room for, and the width of each; empty: show blocks.

    Args:
        cells: column → what stands in it, in the order of the table.
        width: of the terminal, in characters.
    """
    left = dict(cells)
    for dropped in (None, *LESS):
        if dropped is not None and left.pop(dropped, None) is None:
            continue
        least = {column: _least(column, texts) for column, texts in left.items()}
        spare = width - sum(least.values()) - _GAP * (len(least) - 1) - _EDGES
        if spare >= 0:
            break
    else:
        return {}
    wanted = {
        column: max(0, max(map(width_of, left[column]), default=0) - least[column])
        for column in least
        if column in SENTENCES
    }
    for place, column in enumerate(sorted(wanted, key=lambda column: wanted[column])):
        more = min(wanted[column], spare // (len(wanted) - place))  # the others get as much at least
        least[column] += more
        spare -= more
    return least


def _least(column: str, texts: Sequence[str]) -> int:
    """Return the least width in which no word of a column is broken."""
    parts = [word for text in texts for word in text.split()] if column in SENTENCES else texts
    return max(map(width_of, (*parts, *column.split("_"))))


def whole_words(text: str, width: int) -> str:
    """Return *text* as lines of at most *width*, words whole: one that is longer has a line of its own."""
    if len(text) <= width or width <= len(_INDENT):
        return text
    import textwrap  # noqa: PLC0415 - as above

    return textwrap.fill(
        text, width, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False
    )
