"""How ``purgeline top`` looks, in a terminal of any size: a line of sums, the caches, the newest tasks."""

from __future__ import annotations

import time
from collections import Counter
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from engine.cli.cells import clean, shown, styled
from engine.cli.layout import fitting, width_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import ConsoleDimensions, Group
    from rich.table import Table
    from rich.text import Text

    from engine.cli.looks import Look
    from engine.client.bodies import Document

NODES: Final = ("name", "layer", "state", "waiting", "in_flight", "delayed", "acked_per_s", "failed")
TASKS: Final = ("task_id", "action", "state", "total", "counter", "failed", "delayed", "created_at")
_HEADERS: Final = {"in_flight": "sent", "acked_per_s": "acked/s", "counter": "acked", "created_at": "created"}
_WORST: Final = ("name", "state", "waiting", "delayed")  #: of the narrowest terminal
_ALIKE_MAX: Final = 50  #: names that show what all share
_NAME_MIN: Final = 12  #: characters
_REASON_MIN: Final = 16  #: characters, below which none is shown
_NO_ROWS: Final = 7  #: lines that are no rows: sums, two headers, two titles, keys, a spare one
_TASKS_LEAST: Final = 3


def drawn(look: Look, size: ConsoleDimensions, *, first: int, is_paused: bool) -> Group:
    """Return what fills the screen.

    Args:
        look: what is shown.
        size: of the terminal.
        first: the first node that is shown.
        is_paused: nothing new is asked for.
    """
    from rich.console import Group  # noqa: PLC0415 - an extra
    from rich.text import Text  # noqa: PLC0415 - as above

    rows = page_of(look, size)
    nodes = look.nodes[first : first + rows]
    left = max(0, size.height - _NO_ROWS - len(nodes))
    more = f"{first + 1}-{first + len(nodes)} of {len(look.nodes)}" if len(nodes) < len(look.nodes) else ""
    keys = f"q quit  p {'go on' if is_paused else 'pause'}  ↑↓ PgUp PgDn caches"
    return Group(
        _sums(look, size.width, is_paused=is_paused),
        Text(f"\ncaches {more}".rstrip(), style="italic"),
        _table(NODES, nodes, size.width, others=look.nodes[:_ALIKE_MAX], has_reason=True),
        Text("tasks", style="italic"),
        _table(TASKS, look.tasks[:left], size.width),
        Text(keys[: size.width], style="dim"),
    )


def page_of(look: Look, size: ConsoleDimensions) -> int:
    """Return how many nodes a screen shows: all, or what is left beside the tasks."""
    room = max(1, size.height - _NO_ROWS)
    return max(1, min(len(look.nodes), room - min(len(look.tasks), max(_TASKS_LEAST, room // 3))))


def _sums(look: Look, width: int, *, is_paused: bool) -> Text:
    """Return the first line."""
    from rich.text import Text  # noqa: PLC0415 - an extra

    at = time.strftime("%H:%M:%S", time.localtime(look.at)) if look.at else "never"
    if look.away:
        line = Text(f"away, seen {at}: {clean(look.away)}", style="bold red")
    else:
        states = Counter(str(node.get("state")) for node in look.nodes)
        told = ", ".join(f"{count} {clean(state)}" for state, count in states.most_common())
        waits = sum(int(node.get(key) or 0) for node in look.nodes for key in ("waiting", "delayed"))
        rate = "" if look.acked_per_s is None else f"  {look.acked_per_s:g} acked/s"
        line = Text(f"{at}  caches: {told or 'none'}{rate}  {waits} subtasks wait")
    if is_paused:
        line = Text("paused  ", style="bold yellow").append_text(line)
    line.truncate(width, overflow="ellipsis")
    return line


def _table(
    columns: Sequence[str],
    rows: Sequence[Document],
    width: int,
    *,
    others: Sequence[Document] = (),
    has_reason: bool = False,
) -> Table:
    """Return a table, a line for each row: columns that have no room are left out.

    Args:
        columns: of it.
        rows: that are shown.
        width: of the terminal.
        others: that are not shown, whose names are told apart from theirs.
        has_reason: the last column is why a row is as it is.
    """
    from rich.table import Table  # noqa: PLC0415 - an extra
    from rich.text import Text  # noqa: PLC0415 - as above

    texts = {
        column: [header_of(column), *(shown(column, row.get(column)) for row in rows)] for column in columns
    }
    widths = fitting(texts, width) or _narrowed(texts, width)
    table = Table(box=None, padding=(0, 1, 0, 0), show_edge=False)
    for column in widths:
        is_number = any(isinstance(row.get(column), int | float) for row in rows) and column[-3:] != "_at"
        table.add_column(
            header_of(column), justify="right" if is_number else "left", no_wrap=True, header_style="dim"
        )
    spare = width - sum(max(size, len(column)) + 1 for column, size in widths.items())
    has_reason = has_reason and spare >= _REASON_MIN
    if has_reason:
        table.add_column("reason", no_wrap=True, overflow="ellipsis", max_width=spare, header_style="dim")
    known = [*texts[columns[0]][1:], *(shown(columns[0], row.get(columns[0])) for row in others)]
    names = told_apart(known, widths[columns[0]])[: len(rows)]
    for name, row in zip(names, rows, strict=True):
        cells = [Text(name), *(styled(column, row.get(column)) for column in widths if column != columns[0])]
        table.add_row(
            *cells, *([clean(row.get("reason") or row.get("last_error") or "")] if has_reason else [])
        )
    return table


def header_of(column: str) -> str:
    """Return the header of a column."""
    return _HEADERS.get(column, column.replace("_", " "))


def _narrowed(texts: dict[str, list[str]], width: int) -> dict[str, int]:
    """Return the columns of the narrowest terminal: the names give way, all else is whole."""
    first, *others = [column for column in texts if column in _WORST or column == next(iter(texts))]
    widths = {column: max(map(width_of, texts[column])) for column in others}
    while widths and width - sum(widths.values()) - len(widths) - 1 < _NAME_MIN:
        widths.popitem()  # the last one tells least
    return {first: max(1, width - sum(widths.values()) - len(widths) - 1), **widths}


def told_apart(names: Sequence[str], width: int) -> list[str]:
    """Return names in so many characters: ellipses stand for the end that all have, and for the begin."""
    ends = zip(*(reversed(name) for name in names), strict=False) if len(names) > 1 else ()
    common = sum(1 for _ in takewhile(lambda letters: len(set(letters)) == 1, ends))
    return [name if len(name) <= width else _shortened(name, common, width) for name in names]


def _shortened(name: str, common: int, width: int) -> str:
    kept, end = (name[:-common], "…") if common > 1 else (name, "")
    room = width - len(end)
    return (kept if len(kept) <= room else f"…{kept[max(0, len(kept) - room + 1) :]}") + end
