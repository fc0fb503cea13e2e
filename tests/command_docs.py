"""``python -m tests.command_docs``: writes docs/commands.md from what ``purgeline`` reads its arguments with.

A part stands between two comments; a test compares the page with what is made here.
"""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Final

from engine.cli.arguments import parsers
from tests.pages import DOCS

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE: Final = DOCS / "commands.md"
_PART: Final = re.compile(r"(<!-- (\w+): made by [\w .-]+ -->\n)(.*?)(<!-- end -->)", re.DOTALL)
SHARED: Final = "every command"


def every(
    parser: argparse.ArgumentParser | None = None,
) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Yield name, meaning and parser of each command that is listed, those below others after them."""
    parser = parser or parsers()[0]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                inner = action.choices[choice.dest]
                yield inner.prog, choice.help or "", inner
                yield from every(inner)


def commands() -> str:
    """Return a heading for each command, its usage, and a table of its own arguments."""
    return "\n".join(_command(name, text, parser) for name, text, parser in every())


def globals_() -> str:
    """Return what all commands take."""
    parser, _ = parsers()
    return _table(group for group in parser._action_groups if group.title == SHARED)


def _command(name: str, text: str, parser: argparse.ArgumentParser) -> str:
    own = (group for group in parser._action_groups if group.title != SHARED)
    table = _table(own)
    return f"## {name.removeprefix('purgeline ')}\n\n{_text(text)}\n{table and f'{chr(10)}{table}'}"


def _table(groups: Iterator[argparse._ArgumentGroup]) -> str:
    actions = [action for group in groups for action in group._group_actions]
    rows = [
        f"| {_asked(action)} | {_text(action.help or '')} |\n"
        for action in actions
        if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
        and action.help != argparse.SUPPRESS
    ]
    return "".join(["| argument | meaning |\n|---|---|\n", *rows]) if rows else ""


def _asked(action: argparse.Action) -> str:
    value = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if action.choices:
        value = "{" + ",".join(str(choice) for choice in action.choices) + "}"
    if not action.option_strings:
        return f"`{value}`{' …' if action.nargs in {'+', '*'} else ''}"
    shown = ", ".join(f"`{word}`" for word in action.option_strings)
    needed = " (needed)" if action.required else ""
    return f"{shown}{'' if action.nargs == 0 else f' `{value}`'}{needed}".replace("|", "\\|")


def _text(text: str) -> str:
    return (
        " ".join(text.split()).replace("|", "\\|").replace("%%", "%").replace("<", "&lt;").replace("*", "\\*")
    )


def filled(page: str) -> str:
    """Return *page* with its parts made anew."""
    parts = {"commands": commands, "globals": globals_}
    return _PART.sub(lambda found: f"{found[1]}{parts[found[2]]()}{found[4]}", page)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{PAGE.name} written")
