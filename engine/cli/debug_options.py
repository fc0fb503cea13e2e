"""The options of ``purgeline debug``: a word for each look, and what it takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.cli import debug_shown, debugging, profile_formats, values
from engine.cli.options import flag, give, opt

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from engine.cli.options import Opt
    from engine.cli.screen import Output

    Command = Callable[[argparse.Namespace, Output], int]

TEXT = (
    "Look into a running engine, all its workers: what it does, and what it waits for. Takes scope `admin`. "
    "Exits with 1 when not all of them could be looked into."
)


class _Look(NamedTuple):
    """One word, and what it shows."""

    name: str
    run: Command
    text: str
    options: tuple[Opt, ...] = ()


def _for_seconds(default: float) -> Opt:
    """Return the option that says how long a look takes."""
    text = "for so many seconds (default %(default)g, at most 600)"
    return opt("--seconds", type=values.seconds, default=default, metavar="S", help=text)


_WORKER: Final = opt(
    "--worker", type=values.slot, metavar="N", help="only the worker of this slot (default: all)"
)
_PROFILE: Final = (
    _for_seconds(30.0),
    opt(
        "--rate",
        type=values.seconds,
        default=100.0,
        metavar="N",
        help="samples a second (default %(default)g, at most 1000)",
    ),
    opt(
        "--format",
        choices=profile_formats.FORMATS,
        default="text",
        help="text: a table of functions; speedscope: for speedscope.app; collapsed: a line a stack, for "
        "flame graphs (default %(default)s)",
    ),
    opt("--output-file", type=Path, metavar="F", help="write it there"),
)
_HEAP: Final = (
    opt("--seconds", type=values.seconds, metavar="S", help="look twice, so many seconds apart"),
    opt("--top", type=values.count, default=30, metavar="N", help="types to show (default %(default)d)"),
    flag(
        "--trace",
        "note what is allocated in --seconds (default 10), and by which lines; all is slower meanwhile",
    ),
)
_WIRE: Final = (
    opt("node", metavar="NODE", help="name of the cache"),
    _for_seconds(10.0),
    opt(
        "--count",
        type=values.count,
        default=20,
        metavar="N",
        help="end with so many exchanges of a worker (default %(default)d, at most 1000)",
    ),
)
_GC: Final = (
    _for_seconds(10.0),
    flag("--trace", "print a line for each pass as it ends, until Ctrl-C or --seconds"),
)
_LOOP: Final = (
    _for_seconds(10.0),
    opt(
        "--threshold",
        type=values.seconds,
        default=50.0,
        metavar="MS",
        help="what takes longer is shown, in milliseconds (default %(default)g, 5 to 10000)",
    ),
)
_LOOKS: Final = (
    _Look("threads", debugging.threads, "Show the threads: where each is, and what it waits for."),
    _Look("tasks", debugging.tasks, "Show the asyncio tasks: those that wait at one place together."),
    _Look(
        "profile",
        debugging.profile,
        "Sample where the threads are, and show in which functions they work. Columns of threads in a pipe: "
        f"{' '.join(debug_shown.SAMPLED_COLUMNS)}.",
        _PROFILE,
    ),
    _Look(
        "heap",
        debugging.heap,
        "Show what is in memory, by type; with --seconds what grew meanwhile. Columns in a pipe: "
        f"{' '.join(debug_shown.HEAP_COLUMNS)}; with --trace {' '.join(debug_shown.ALLOCATED_COLUMNS)}.",
        _HEAP,
    ),
    _Look(
        "wire",
        debugging.wire,
        "Show what passes between the engine and a cache from now on, without secrets: requests, answers, "
        "and how long each took.",
        _WIRE,
    ),
    _Look(
        "task",
        debugging.task,
        "Show all that is known of a task: which worker has it, where its subtasks are, node by node, and "
        f"what they wait for. Columns of nodes in a pipe: {' '.join(debug_shown.SUBTASK_COLUMNS)}.",
        (opt("id", type=values.task_id, metavar="ID"),),
    ),
    _Look("gc", debugging.gc, "Show the garbage collector: passes, and how long they stop the worker.", _GC),
    _Look("loop", debugging.loop, "Show how late the loop is, and what keeps it busy for long.", _LOOP),
)  #: in the order that help lists them


def add_looks(command: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
    """Add the looks to the parser of the command."""
    places = command.add_subparsers(dest="look", metavar="LOOK", required=True)
    for look in _LOOKS:
        parser = places.add_parser(
            look.name, help=look.text, description=look.text, parents=[shared], allow_abbrev=False
        )
        parser.set_defaults(run=look.run)
        give(parser.add_argument, (_WORKER, *look.options))
