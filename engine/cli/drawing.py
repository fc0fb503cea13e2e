"""What a terminal gets: tables where they fit, blocks where they do not, and values beside their names.

No line is wider than the terminal and nothing is cut off: what has no room goes to the next line.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, Literal

from engine.cli.cells import clean, shown, styled
from engine.cli.layout import SENTENCES, fitting, header_of, width_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console
    from rich.text import Text

    from engine.client.bodies import Document

_GAP: Final = "  "
_NAMES_SHARE: Final = 2  #: of the width, what the names of values take at most: one half


def console() -> Console:
    """Return standard output, as wide as the terminal is now."""
    from rich.console import Console  # noqa: PLC0415 - only a terminal pays for rich

    return Console(file=sys.stdout, highlight=False, markup=False)


def table(to: Console, title: str, columns: Sequence[str], rows: Sequence[Document]) -> None:
    """Draw rows as a table, without the columns that have no room; as blocks where too few have."""
    texts = {column: [shown(column, row.get(column)) for row in rows] for column in columns}
    widths = fitting(texts, to.width)
    if not widths:
        _blocks(to, title, columns, rows)
        return
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - only a terminal pays for rich
    from rich.table import Table  # noqa: PLC0415

    drawn = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, padding=0)
    for column, width in widths.items():
        is_number = any(isinstance(row.get(column), int | float) for row in rows)
        justify: Literal["left", "right"] = "right" if is_number and column[-3:] != "_at" else "left"
        header = header_of(column, max(map(width_of, texts[column]), default=0))
        drawn.add_column(header, justify=justify, width=width if column in SENTENCES else None)
    for row in rows:
        drawn.add_row(*(styled(column, row.get(column)) for column in widths))
    to.print(drawn)
    if left_out := [column for column in columns if column not in widths]:
        to.print(f"no room for: {', '.join(left_out)}; --json has them\n", style="dim")


def pairs(to: Console, told: Sequence[tuple[str, Any]]) -> None:
    """Draw values beside their names, those that there are; below them where they have no room.

    They stand in a column, unless names take more than half of the width and values not less than the rest.
    """
    kept = [(clean(key), styled(key, value)) for key, value in told if value not in (None, "", [], {})]
    names = max((width_of(key) for key, _ in kept), default=0)
    values = max((value.cell_len for _, value in kept), default=0)
    is_column = names <= to.width // _NAMES_SHARE or names + len(_GAP) + values <= to.width
    for key, value in kept:
        place = (names if is_column else width_of(key)) + len(_GAP)
        longest = max(map(width_of, value.plain.split()), default=0) if is_column else value.cell_len
        if place + longest <= to.width:
            _beside(to, key, value, place)
        else:  # a word, such as a URL, stays whole where a line of its own has room for it
            folded(to, key)
            folded(to, value, len(_GAP))


def _beside(to: Console, key: str, value: Text, place: int) -> None:
    """Draw a value from *place* on, its words on the next lines where they have no room."""
    from rich.text import Text  # noqa: PLC0415 - only a terminal pays for rich

    name = key + " " * (place - width_of(key))
    for line in value.wrap(to, to.width - place, overflow="fold"):
        line.rstrip()
        to.print(Text(name).append_text(line), soft_wrap=True)
        name = " " * place


def _blocks(to: Console, title: str, columns: Sequence[str], rows: Sequence[Document]) -> None:
    """Draw rows that are too wide for a table: the first column, and the others in lines below it."""
    from rich.text import Text  # noqa: PLC0415 - only a terminal pays for rich

    to.print(Text(f"\n{title}\n" if title else "", style="italic"))
    for row in rows:
        folded(to, styled(columns[0], row.get(columns[0])))
        for line in _lines(row, columns[1:], to.width - len(_GAP)):
            folded(to, line, len(_GAP))


def _lines(row: Document, columns: Sequence[str], width: int) -> Iterator[Text]:
    """Yield what a row has, as many values in a line as there is room for; sentences alone."""
    from rich.text import Text  # noqa: PLC0415 - only a terminal pays for rich

    line = Text()
    for column in columns:
        value = styled(column, row.get(column))
        if value.plain == "-":
            continue
        cell = Text.assemble((f"{column.replace('_', ' ')} ", "dim"), value)
        is_alone = column in SENTENCES or cell.cell_len > width
        if line and (is_alone or line.cell_len + len(_GAP) + cell.cell_len > width):
            yield line
            line = Text()
        line = line.append(_GAP).append_text(cell) if line else cell
        if is_alone:
            yield line
            line = Text()
    if line:
        yield line


def folded(to: Console, text: Text | str, indent: int = 0) -> None:
    """Draw a text from a column on, its words on the next lines where they have no room."""
    from rich.text import Text  # noqa: PLC0415 - only a terminal pays for rich

    whole = Text(text) if isinstance(text, str) else text
    for line in whole.wrap(to, max(1, to.width - indent), overflow="fold"):
        line.rstrip()
        to.print(Text(" " * indent).append_text(line), soft_wrap=True)
