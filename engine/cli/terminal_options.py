"""The commands that make a terminal pleasant: completion and the manual page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.cli import shell

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from engine.cli.arguments import Command


def add_commands(add: Callable[[str, Command, str], Callable[..., argparse.Action]]) -> None:
    """Add the commands."""
    add(
        "completion",
        shell.completion,
        'Print what a shell completes words with: eval "$(purgeline completion bash)", or zsh; '
        "purgeline completion fish | source.",
    )("shell", choices=sorted(shell.COMPLETIONS), help="the shell that reads it")
    add("man", shell.man, "Print the manual page: purgeline man | man -l -.")
