"""Arguments: what stands around the commands, and which of them is asked for.

Only that one gets a parser, and only its module is imported: most of what a user waits for is the start of
Python. Help, and a word that is no command, need all of them.
"""

from __future__ import annotations

import argparse

from engine._version import __version__
from engine.cli import values
from engine.cli.commands import GROUPS
from engine.cli.parser import Commands, Parser
from engine.client.address import URL_DEFAULT

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    from collections.abc import Sequence

_VALUED = ("--engine", "--token", "--timeout")  #: global options that take a value
_FLAGS = ("--json", "--human")  #: that take none
_VERSION = "--version"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the arguments of one command; global options may stand before and after its name.

    Raises:
        SystemExit: after ``--help`` (0) or a mistake (2), both told already.
    """
    parser, commands = parsers(_wanted(argv))
    args, rest = parser.parse_known_args(argv)
    if rest:
        # argparse takes URLs in one place only; those between or after options arrive here.
        end = rest.index("--") if "--" in rest else len(rest)
        if not hasattr(args, "targets") or any(word.startswith("-") and word != "-" for word in rest[:end]):
            commands[args.command].unknown(rest)
        args.targets += rest[:end] + rest[end + 1 :]
    if args.json and args.human:
        parser.error("--json and --human: takes one of the two")
    return args


def _wanted(argv: Sequence[str]) -> str | None:
    """Return the command that *argv* names, or ``--version``; None: neither, or it cannot be told."""
    words = iter(argv)
    for word in words:
        if word in _VALUED:
            next(words, None)
        elif word not in _FLAGS and word.partition("=")[0] not in _VALUED:
            is_known = word == _VERSION or any(word in group.names for group in GROUPS)
            return word if is_known else None
    return None


def parsers(wanted: str | None = None) -> tuple[Parser, dict[str, Parser]]:
    """Return the parser, and those of its commands by name.

    Args:
        wanted: the only command that is needed, or ``--version``; None: all are.
    """
    parser = Parser(
        prog="purgeline",
        description="Purges and prefetches content on every cache, through the engine.",
        epilog="Exit codes: 0 done or accepted, 1 failed or partial, 2 usage, 3 engine unreachable.",
        allow_abbrev=False,
    )
    shared = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    _add_globals(shared)
    _add_globals(parser)
    parser.add_argument(_VERSION, action="version", version=f"purgeline {__version__}")
    parser.set_defaults(engine=None, token=None, json=False, human=False, timeout=None)
    places = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands = Commands(places, shared, wanted)
    for group in GROUPS:
        if wanted is None or wanted in group.names:
            group.fill(commands)
    return parser, commands.made


def _add_globals(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("every command")
    group.add_argument(
        "--engine",
        metavar="URL",
        help=f"or several between commas, tried in order (default: $PURGELINE_URL or {URL_DEFAULT})",
    )
    group.add_argument(
        "--token",
        metavar="T",
        help="default: $PURGELINE_TOKEN, or what the file $PURGELINE_TOKEN_FILE has; both are better: other "
        "users of this machine can see arguments",
    )
    group.add_argument("--json", action="store_true", help="print JSON, one document a line")
    group.add_argument(
        "--human",
        action="store_true",
        help="print as in a terminal, wherever it goes: tables and local times, not lines and UNIX seconds",
    )
    group.add_argument(
        "--timeout",
        type=values.seconds,
        metavar="S",
        help=f"seconds to wait for an answer (default {values.TIMEOUT_S:g})",
    )
