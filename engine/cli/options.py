"""Options as data: what argparse is given of each, and those that several commands take.

A module of commands has a table of options for each command; `give` hands a table to the parser.
"""

from __future__ import annotations

from engine.base.tuples import NamedTuple
from engine.cli import values

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Final


class Opt(NamedTuple):
    """One option, or one argument that has a place."""

    names: tuple[str, ...]
    facts: dict[str, Any]  #: as `argparse.ArgumentParser.add_argument` takes them


def opt(*names: str, **facts: Any) -> Opt:
    """Return an option that takes a value, or an argument that has a place."""
    return Opt(names, facts)


def flag(name: str, text: str) -> Opt:
    """Return an option that takes no value; it is False when it is left out."""
    return Opt((name,), {"action": "store_true", "help": text})


def several(name: str, metavar: str, text: str, **facts: Any) -> Opt:
    """Return an option that may be repeated; a list, which is empty when it is left out."""
    return Opt((name,), {"action": "append", "default": [], "metavar": metavar, "help": text, **facts})


def give(option: Callable[..., object], options: Iterable[Opt]) -> None:
    """Add options to a parser, or to a group of one.

    Args:
        option: its ``add_argument``.
        options: in the order in which help lists them.
    """
    for names, facts in options:
        option(*names, **facts)


CONFIG: Final = opt("--config", type=values.file, required=True, metavar="F", help="TOML file of the engine")
WAIT_FOR_ALL: Final = flag("--wait", "wait until all is settled; the exit code tells how")
