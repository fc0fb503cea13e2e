"""The parser of arguments: argparse's, whose errors are one line that says what would be right."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NoReturn

from engine.cli.exits import USAGE

if TYPE_CHECKING:
    from collections.abc import Iterable


class Parser(argparse.ArgumentParser):
    """The parser of the program, or of one of its commands."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, and exit with 2."""
        self.exit(USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def unknown(self, words: Iterable[str]) -> NoReturn:
        """Say which arguments nothing takes, and what may be meant by the first."""
        all_words = list(words)
        meant = did_you_mean(all_words[0].partition("=")[0], self._options())
        self.error(f"nothing takes {' '.join(all_words)}{meant}")

    def _options(self) -> set[str]:
        """Return the options of this command and of those below it."""
        below = [action.choices for action in self._actions if isinstance(action.choices, dict)]
        commands = [
            command for choices in below for command in choices.values() if isinstance(command, Parser)
        ]
        return set(self._option_string_actions).union(*[command._options() for command in commands])  # noqa: SLF001

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is None or value in action.choices:
            return
        shown = getattr(action, "_choices_actions", None)  # of commands: those with a help text
        known = [str(one.dest) for one in shown] if shown else [str(one) for one in action.choices]
        meant = did_you_mean(str(value), known) or f"; known: {', '.join(known)}"
        raise argparse.ArgumentError(action, f"there is no {str(value)!r}{meant}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that names the known word nearest to *word*, or nothing."""
    import difflib  # noqa: PLC0415 - of no use to a command that is right

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
