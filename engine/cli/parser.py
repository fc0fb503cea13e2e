"""The parser of arguments: argparse's, whose errors are one line that says what would be right.

`Commands` makes the parsers of commands, all or the one that is wanted.
"""

from __future__ import annotations

import argparse
import os
import sys

from engine.cli.exits import USAGE
from engine.cli.meant import did_you_mean
from engine.cli.options import give

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Final, NoReturn

    from engine.cli.options import Opt
    from engine.cli.screen import Output

    Command = Callable[[argparse.Namespace, Output], int]
    Option = Callable[..., Any]


_COLUMNS: Final = 80  #: where nobody says how wide the screen is
_MARGIN: Final = 2


class _Formatter(argparse.HelpFormatter):
    """Help as wide as the terminal. argparse's own asks shutil, and that brings bz2 and lzma."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - _MARGIN)


def _columns() -> int:
    """Return how wide a terminal is, as shutil finds it."""
    said = os.environ.get("COLUMNS", "")
    if said.isdecimal() and int(said):
        return int(said)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or _COLUMNS  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):
        return _COLUMNS


class Parser(argparse.ArgumentParser):
    """The parser of the program, or of one of its commands."""

    def __init__(self, **facts: Any) -> None:
        super().__init__(**{"formatter_class": _Formatter, **facts})

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


class Commands:
    """The commands of a parser, or of them the one that is wanted.

    Args:
        places: of the parser, for commands.
        shared: has what every command takes.
        wanted: the only one that gets a parser; None: all do.
    """

    def __init__(
        self, places: argparse._SubParsersAction[Parser], shared: Parser, wanted: str | None
    ) -> None:
        self._places = places
        self._wanted = wanted
        self.shared = shared
        self.made: dict[str, Parser] = {}  #: by name

    def parser(self, name: str, text: str = "", *, is_plain: bool = False) -> Parser | None:
        """Return a parser for a command; None: it is not wanted.

        Args:
            name: of the command.
            text: what it is for; empty: the command is not listed.
            is_plain: it does not take what every command takes.
        """
        if self._wanted not in {None, name}:
            return None
        texts: dict[str, Any] = {"help": brief(text), "description": text} if text else {}
        parents = [] if is_plain else [self.shared]
        self.made[name] = self._places.add_parser(name, **texts, parents=parents, allow_abbrev=False)
        return self.made[name]

    def add(self, name: str, run: Command, text: str, options: Iterable[Opt] = ()) -> Option:
        """Add a command with its options; return what adds another one to it."""
        command = self.parser(name, text)
        if command is None:
            return _left_out
        command.set_defaults(run=run)
        give(command.add_argument, options)
        return command.add_argument


def _left_out(*_names: str, **_facts: object) -> None:
    """Take an option of a command that is not wanted."""


def brief(text: str) -> str:
    """Return the first sentence of a description: what a list of all commands has room for."""
    return text.partition(". ")[0].removesuffix(".") + "."
