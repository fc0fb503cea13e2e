"""Commands for a terminal: the live view, a first configuration, completion, the manual page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.cli import first, shell, top, values
from engine.cli.options import flag, give, opt, several

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from engine.cli.screen import Output

    Command = Callable[[argparse.Namespace, Output], int]


_INIT: Final = (
    opt("file", nargs="?", type=Path, default=Path("engine.toml"), metavar="F", help="default: engine.toml"),
    several(
        "--cache",
        "KIND=URL",
        "a cache, such as varnish=http://127.0.0.1:6081; may be repeated",
        dest="caches",
        type=values.cache,
    ),
    several(
        "--site",
        "HOST",
        "only this host, or with *. before it those below it, may be purged; may be repeated",
        dest="sites",
    ),
    flag("--yes", "ask nothing"),
)


def add_commands(add: Callable[[str, Command, str], Callable[..., argparse.Action]]) -> None:
    """Add the commands."""
    add("top", top.top, "Show caches and tasks, live: q quits, p pauses, arrows scroll. Needs a terminal.")
    option = add(
        "init",
        first.init,
        "Write a first configuration, with examples; a terminal is asked what no option says.",
    )
    give(option, _INIT)
    add(
        "completion",
        shell.completion,
        'Print what a shell completes words with: eval "$(purgeline completion bash)", or zsh; '
        "purgeline completion fish | source.",
    )("shell", choices=sorted(shell.COMPLETIONS), help="the shell that reads it")
    add("man", shell.man, "Print the manual page: purgeline man | man -l -.")
