"""Commands for a terminal: the live view, a first configuration, completion, the manual page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli import first, shell, top, values

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from engine.cli.screen import Output

    Command = Callable[[argparse.Namespace, Output], int]


def add_commands(add: Callable[[str, Command, str], Callable[..., argparse.Action]]) -> None:
    """Add the commands."""
    add("top", top.top, "Show caches and tasks, live: q quits, p pauses, arrows scroll. Needs a terminal.")
    option = add(
        "init",
        first.init,
        "Write a first configuration, with examples; a terminal is asked what no option says.",
    )
    option(
        "file", nargs="?", type=Path, default=Path("engine.toml"), metavar="F", help="default: engine.toml"
    )
    option(
        "--cache",
        dest="caches",
        action="append",
        default=[],
        type=values.cache,
        metavar="KIND=URL",
        help="a cache, such as varnish=http://127.0.0.1:6081; may be repeated",
    )
    option(
        "--site",
        dest="sites",
        action="append",
        default=[],
        metavar="HOST",
        help="only this host, or with *. before it those below it, may be purged; may be repeated",
    )
    option("--yes", action="store_true", help="ask nothing")
    add(
        "completion",
        shell.completion,
        'Print what a shell completes words with: eval "$(purgeline completion bash)", or zsh; '
        "purgeline completion fish | source.",
    )("shell", choices=sorted(shell.COMPLETIONS), help="the shell that reads it")
    add("man", shell.man, "Print the manual page: purgeline man | man -l -.")
