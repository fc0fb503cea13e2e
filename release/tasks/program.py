"""Invoke's program, which ``./inv`` runs: a wrong word is one line, with the word that may be meant."""

from __future__ import annotations

import difflib
import re
import sys
from typing import TYPE_CHECKING, Final

from invoke._version import __version__
from invoke.exceptions import Exit, ParseError
from invoke.program import Program

if TYPE_CHECKING:
    from collections.abc import Iterable

_UNKNOWN: Final = re.compile(r"No idea what (['\"])(.*)\1 is!", re.DOTALL)  #: Invoke's words
_NO_VALUE: Final = re.compile(r"Flag <Argument: ([\w-]+).*?> needed value and was not given one!")
_USAGE: Final = 2


class Tasks(Program):
    """Runs tasks."""

    def parse_tasks(self) -> None:
        """Read the words behind the program's own options.

        Raises:
            Exit: one of them is no task, or no option of its task; 2.
        """
        try:
            super().parse_tasks()
        except ParseError as exc:
            raise Exit(self._told(exc), code=_USAGE) from exc

    def _told(self, exc: ParseError) -> str:
        """Return what is wrong, what may be meant, and where the right ones stand."""
        text = str(exc)
        unknown = _UNKNOWN.fullmatch(text)
        task = exc.context.name if exc.context is not None else None
        help_of = f"{self.binary} {task} --help" if task else f"{self.binary} --help"
        if unknown is None:
            told = _NO_VALUE.sub(r"--\1 needs a value", text)
            return f"{told} (see {help_of})"
        word = unknown[2].partition("=")[0]
        if word.startswith("-"):
            known = {*self.initial_context.flags, *(exc.context.flags if exc.context is not None else ())}
            return f"{task or self.binary}: nothing takes {word}{_meant(word, known)} (see {help_of})"
        meant = _meant(word, self.collection.task_names)
        return f"there is no task {word!r}{meant} (see {self.binary} --list)"


def _meant(word: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that names the known word nearest to *word*, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


if __name__ == "__main__":
    Tasks(name="Invoke", binary="./inv", version=__version__).run(["./inv", *sys.argv[1:]])
