"""The bars of a wait in a terminal: one for each layer, and below them what is waited for."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

from engine.cli.cells import clean, merge_layers, sum_of
from engine.cli.waiting import still_waiting
from engine.client.polls import SETTLED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.progress import Progress

    from engine.client.bodies import Document

_BAR_MIN: Final = 10  #: characters
_WIDE: Final = 80
_SAID_AFTER_S: Final = 1.0  #: most waits are over before


@contextlib.contextmanager
def drawn() -> Iterator[Callable[[Sequence[Document]], None]]:
    """Give a function that draws how far tasks are on standard error; all is gone when the wait is over."""
    from rich.console import Group  # noqa: PLC0415 - only a terminal pays for rich
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    began = time.monotonic()
    progress = _progress()
    bars: dict[str, Any] = {}
    word = ("settled",) if progress.console.width >= _WIDE else ()
    with Live(progress, console=progress.console, transient=True) as live:

        def show(documents: Sequence[Document]) -> None:
            layers = merge_layers(documents)
            if layers and "" in bars:
                progress.remove_task(bars.pop(""))
            for layer in layers or [sum_of("", documents)]:
                name = clean(layer["name"])
                if name not in bars:
                    bars[name] = progress.add_task(name or "accepted", total=layer["total"], note="")
                settled = layer["counter"] + layer["failed"] + layer["cancelled"]
                told = ("failed", "delayed", "cancelled")
                note = ", ".join((*word, *(f"{layer[key]} {key}" for key in told if layer[key])))
                progress.update(bars[name], total=layer["total"], completed=settled, note=note)
            waited_s = time.monotonic() - began
            if waited_s > _SAID_AFTER_S and any(one["state"] not in SETTLED for one in documents):
                live.update(Group(progress, Text(clean(still_waiting(documents, waited_s)), style="dim")))

        yield show


def _progress() -> Progress:
    """Return bars that fit the terminal: the name of a layer gives way first."""
    from rich.console import Console  # noqa: PLC0415 - only a terminal pays for rich
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415
    from rich.table import Column  # noqa: PLC0415

    console = Console(stderr=True, highlight=False)
    name = Column(no_wrap=True, overflow="ellipsis", max_width=max(8, console.width // 3))
    bar = Column(width=max(_BAR_MIN, min(40, console.width // 4)))
    return Progress(
        TextColumn("{task.description}", markup=False, table_column=name),
        BarColumn(bar_width=None, table_column=bar),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
        console=console,
        auto_refresh=False,
    )
