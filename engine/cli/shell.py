"""``purgeline completion SHELL`` and ``purgeline man``: files that the wheel brings, made from the parser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.cli.exits import DONE

if TYPE_CHECKING:
    import argparse

    from engine.cli.screen import Output

COMPLETIONS: Final = {"bash": "purgeline.bash", "zsh": "purgeline.zsh", "fish": "purgeline.fish"}
MAN_PAGE: Final = "purgeline.1"


def completion(args: argparse.Namespace, out: Output) -> int:
    """Print what a shell completes words with."""
    out.text(_read(COMPLETIONS[args.shell]))
    return DONE


def man(_args: argparse.Namespace, out: Output) -> int:
    """Print the manual page."""
    out.text(_read(MAN_PAGE))
    return DONE


def _read(name: str) -> str:
    from engine.base.templates import folder  # noqa: PLC0415 - brings Jinja, which no other command waits for

    return (folder() / "shell" / name).read_text(encoding="utf-8")
