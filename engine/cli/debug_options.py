"""The options of ``purgeline debug``: a word for each look, and what it takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli import debug_shown, debugging, profile_formats, values

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from engine.cli.screen import Output

    Command = Callable[[argparse.Namespace, Output], int]
    Option = Callable[..., argparse.Action]
    Add = Callable[[str, Command, str], Option]

TEXT = (
    "Look into a running engine, all its workers: what it does, and what it waits for. Takes scope `admin`. "
    "Exits with 1 when not all of them could be looked into."
)
_SECONDS = "for so many seconds (default %(default)g, at most 600)"


def add_looks(command: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
    """Add the looks to the parser of the command."""
    places = command.add_subparsers(dest="look", metavar="LOOK", required=True)

    def add(name: str, run: Command, text: str) -> Option:
        look = places.add_parser(name, help=text, description=text, parents=[shared], allow_abbrev=False)
        look.set_defaults(run=run)
        look.add_argument(
            "--worker", type=values.slot, metavar="N", help="only the worker of this slot (default: all)"
        )
        return look.add_argument

    add("threads", debugging.threads, "Show the threads: where each is, and what it waits for.")
    add("tasks", debugging.tasks, "Show the asyncio tasks: those that wait at one place together.")
    _add_profile(add)
    _add_heap(add)
    _add_wire(add)
    _add_task(add)
    _add_gc(add)
    _add_loop(add)


def _add_profile(add: Add) -> None:
    """Add what samples threads."""
    option = add(
        "profile",
        debugging.profile,
        "Sample where the threads are, and show in which functions they work. Columns of threads in a pipe: "
        f"{' '.join(debug_shown.SAMPLED_COLUMNS)}.",
    )
    option("--seconds", type=values.seconds, default=30.0, metavar="S", help=_SECONDS)
    option(
        "--rate",
        type=values.seconds,
        default=100.0,
        metavar="N",
        help="samples a second (default %(default)g, at most 1000)",
    )
    option(
        "--format",
        choices=profile_formats.FORMATS,
        default="text",
        help="text: a table of functions; speedscope: for speedscope.app; collapsed: a line a stack, for "
        "flame graphs (default %(default)s)",
    )
    option("--output-file", type=Path, metavar="F", help="write it there")


def _add_heap(add: Add) -> None:
    """Add what looks into memory."""
    option = add(
        "heap",
        debugging.heap,
        "Show what is in memory, by type; with --seconds what grew meanwhile. Columns in a pipe: "
        f"{' '.join(debug_shown.HEAP_COLUMNS)}; with --trace {' '.join(debug_shown.ALLOCATED_COLUMNS)}.",
    )
    option("--seconds", type=values.seconds, metavar="S", help="look twice, so many seconds apart")
    option("--top", type=values.count, default=30, metavar="N", help="types to show (default %(default)d)")
    option(
        "--trace",
        action="store_true",
        help="note what is allocated in --seconds (default 10), and by which lines; all is slower meanwhile",
    )


def _add_wire(add: Add) -> None:
    """Add what shows requests to a cache."""
    option = add(
        "wire",
        debugging.wire,
        "Show what passes between the engine and a cache from now on, without secrets: requests, answers, "
        "and how long each took.",
    )
    option("node", metavar="NODE", help="name of the cache")
    option("--seconds", type=values.seconds, default=10.0, metavar="S", help=_SECONDS)
    option(
        "--count",
        type=values.count,
        default=20,
        metavar="N",
        help="end with so many exchanges of a worker (default %(default)d, at most 1000)",
    )


def _add_task(add: Add) -> None:
    """Add what shows one task."""
    option = add(
        "task",
        debugging.task,
        "Show all that is known of a task: which worker has it, where its subtasks are, node by node, and "
        f"what they wait for. Columns of nodes in a pipe: {' '.join(debug_shown.SUBTASK_COLUMNS)}.",
    )
    option("id", type=values.task_id, metavar="ID")


def _add_gc(add: Add) -> None:
    """Add what shows the garbage collector."""
    option = add("gc", debugging.gc, "Show the garbage collector: passes, and how long they stop the worker.")
    option("--seconds", type=values.seconds, default=10.0, metavar="S", help=_SECONDS)
    option(
        "--trace",
        action="store_true",
        help="print a line for each pass as it ends, until Ctrl-C or --seconds",
    )


def _add_loop(add: Add) -> None:
    """Add what shows how late the loop is."""
    option = add("loop", debugging.loop, "Show how late the loop is, and what keeps it busy for long.")
    option("--seconds", type=values.seconds, default=10.0, metavar="S", help=_SECONDS)
    option(
        "--threshold",
        type=values.seconds,
        default=50.0,
        metavar="MS",
        help="what takes longer is shown, in milliseconds (default %(default)g, 5 to 10000)",
    )
