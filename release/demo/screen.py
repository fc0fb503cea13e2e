"""What the demo prints: with colours in a terminal, plain in a pipe; 80 columns do for both."""

import contextlib
import sys
import textwrap
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

WIDTH = 80
INDENT = "    "

_STYLES = {
    **dict.fromkeys(("HIT", "fresh", "ready", "done"), "green"),
    **dict.fromkeys(("MISS", "partial"), "yellow"),
    **dict.fromkeys(("stale", "down"), "red"),
}


class ClaimError(Exception):
    """The demo was about to claim something that is not true."""


class StoryScreen:
    """Standard output. Text is printed as it is: no markup, no guessing what to highlight."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        # A pipe gets what fits a terminal.
        self.width = min(WIDTH, self._console.width) if self.is_terminal else WIDTH
        self._steps = 0

    @property
    def is_terminal(self) -> bool:
        """Whether a person may be watching."""
        return self._console.is_terminal

    def opening(self) -> None:
        """Say what the demo shows."""
        self._print(Text("Purgeline: purge and prefetch on every cache you run", style="bold"))
        self.say(
            "When a page changes, caches go on serving the old one. Purgeline drops it from all of "
            "them, parents before edges, proves that each did it, and makes up for nodes that were away."
        )

    def step(self, title: str) -> None:
        """Begin a step, under its number."""
        self._steps += 1
        self._print(Text(f"\n{self._steps}. {title}", style="bold cyan"))

    def say(self, text: str) -> None:
        """Print a sentence or two."""
        lines = text.split("\n")
        self._print(
            Text("\n".join(textwrap.fill(line, self.width, break_on_hyphens=False) for line in lines))
        )

    def command(self, words: str) -> None:
        """Show a command as it is typed, a long one on several lines."""
        lines = textwrap.wrap(words, self.width - 6, break_long_words=False, break_on_hyphens=False)
        for place, line in enumerate(lines):
            start = "    " if place else "  $ "
            end = "" if line is lines[-1] else " \\"
            self._print(Text.assemble((start, "dim"), (line, "bold"), (end, "dim")))

    def output(self, text: str) -> None:
        """Show what a command printed; its own colours stay."""
        for line in text.strip("\n").splitlines():
            for part in Text.from_ansi(line).wrap(self._console, self.width - len(INDENT)) or [Text()]:
                part.rstrip()
                self._print(Text(INDENT) + part if part else part)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table; known words have colours."""
        widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
        for row in (columns, *rows):
            line = Text("  ")
            for cell, width in zip(row, widths, strict=True):
                style = "dim underline" if row is columns else _STYLES.get(cell.split(",")[0], "")
                line.append(cell, style=style).append(" " * (width - len(cell) + 2))
            line.rstrip()
            self._print(line)

    def claim(self, what: str, expected: object, seen: object) -> None:
        """Print *what* and what was seen, which must be what was *expected*.

        Raises:
            ClaimError: it is not.
        """
        if expected != seen:
            facts = f"{INDENT}expected: {_said(expected)}\n{INDENT}seen:     {_said(seen)}"
            raise ClaimError(f"not true: {what}\n{facts}")
        shown = f"{what} {seen}" if isinstance(seen, int | str) and not isinstance(seen, bool) else what
        self._print(Text.assemble(("  ok ", "bold green"), shown))

    def failure(self, text: str, *, log: str) -> None:
        """Say what went wrong, after the last lines of the engine's log."""
        if log:
            self._print(Text(f"\nThe engine's log ends with:\n{log}", style="dim"))
        self._print(Text.assemble("\n", ("FAILED ", "bold red"), text))

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Say in a terminal what takes a while; the line goes away again."""
        if not self.is_terminal:
            yield
            return
        with self._console.status(Text(f"{what} ...")):
            yield

    def _print(self, text: Text) -> None:
        self._console.print(text)
        sys.stdout.flush()  # a pipe's reader wants to see how far it is


def _said(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {item}" for key, item in value.items()) or "nothing"
    return str(value)
