"""``python -m tests.shell_files``: writes templates/shell, from what ``purgeline`` reads its arguments with.

shtab makes the completions; the manual page is made here, since argparse-manpage comes as no wheel, and what
its build needs would come unlocked. A test compares the files with what is made here.
"""

from __future__ import annotations

import argparse
from typing import Any, Final

import shtab

from engine.cli.arguments import parsers
from engine.cli.shell import COMPLETIONS, MAN_PAGE
from tests.command_docs import SHARED, every
from tests.pages import DOCS

FOLDER: Final = DOCS.parent / "templates" / "shell"
#: Names that the engine is asked for, a second at most: what is completed → how they are asked for.
_ASKED: Final = {
    "nodes": "purgeline nodes --timeout 1 2>/dev/null </dev/null | cut -f1",
    "tasks": "purgeline tasks --limit 20 --timeout 1 2>/dev/null </dev/null | cut -f1",
}
_OF_NODES: Final = frozenset({"NODE", "NAME"})
_SETS_ID: Final = frozenset({"purgeline purge", "purgeline prefetch"})  #: their --id is a new one


def every_file() -> dict[str, str]:
    """Return the text of each file, by its name."""
    completions = {name: completion(shell) for shell, name in COMPLETIONS.items()}
    return {**completions, MAN_PAGE: man_page()}


def completion(shell: str) -> str:
    """Return what *shell* completes words with."""
    parser, _ = parsers()
    for one in [parser, *(inner for _, _, inner in every(parser))]:
        for action in one._actions:
            _complete(one, action)
    return shtab.complete(parser, shell, preamble=_preambles()[shell])


def _complete(parser: argparse.ArgumentParser, action: Any) -> None:
    """Say what the value of an argument is completed by."""
    kind = action.metavar
    if kind == "F":
        action.complete = shtab.FILE
    elif kind == "DIR":
        action.complete = shtab.DIRECTORY
    elif action.dest == "node" and kind in _OF_NODES and parser.prog != "purgeline render":
        action.complete = _asked("nodes")
    elif kind == "ID" and parser.prog not in _SETS_ID and parser.prog != "purgeline unsilence":
        action.complete = _asked("tasks")


def _asked(what: str) -> dict[str, str]:
    return {
        "bash": f"_purgeline_{what}",
        "zsh": f"_purgeline_{what}",
        "fish": f"(_purgeline_{what})",
    }


def _preambles() -> dict[str, str]:
    """Return the functions that ask the engine, by shell."""
    made: dict[str, list[str]] = {shell: [] for shell in COMPLETIONS}
    for what, command in _ASKED.items():
        name = f"_purgeline_{what}"
        made["bash"].append(f'{name}() {{\n  compgen -W "$({command})" -- "$1"\n}}')
        made["zsh"].append(f'{name}() {{\n  compadd -- ${{(f)"$({command})"}}\n}}')
        made["fish"].append(f"function {name}\n  {command.replace('</dev/null', '')}\nend")
    return {shell: "\n".join(parts) for shell, parts in made.items()}


def man_page() -> str:
    """Return the manual page, as roff of man(7)."""
    parser, _ = parsers()
    lines = [
        '.TH PURGELINE 1 "" "" "User Commands"',
        ".SH NAME",
        r"purgeline \- purge and prefetch on every cache, with proof",
        ".SH SYNOPSIS",
        r".B purgeline",
        r".I COMMAND",
        "[options]",
        ".SH DESCRIPTION",
        _roff(parser.description or ""),
        ".SH OPTIONS",
        *_options(parser, is_shared=False),
        ".SH OPTIONS OF EVERY COMMAND",
        *_options(parser, is_shared=True),
        ".SH COMMANDS",
    ]
    for name, text, command in every():
        lines += [f'.SS "{_roff(name)}"', _roff(text), *_options(command, is_shared=False)]
    lines += [".SH EXIT STATUS", _roff((parser.epilog or "").partition(": ")[2])]
    return "\n".join(lines) + "\n"


def _options(parser: argparse.ArgumentParser, *, is_shared: bool) -> list[str]:
    lines: list[str] = []
    for group in parser._action_groups:
        if (group.title == SHARED) is not is_shared:
            continue
        for action in group._group_actions:
            inner = isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
            if inner or action.help == argparse.SUPPRESS:
                continue
            lines += [".TP", _usage(action), _roff(action.help or "")]
    return lines


def _usage(action: argparse.Action) -> str:
    value = str(action.metavar or action.dest.upper())
    if action.choices:
        value = "|".join(map(str, action.choices))
    names = ", ".join(rf"\fB{_roff(word)}\fR" for word in action.option_strings)
    shown = "" if action.nargs == 0 else rf"\fI{_roff(value)}\fR"
    return " ".join(filter(None, (names, shown)))


def _roff(text: str) -> str:
    """Return *text* with what roff would read as its own escaped."""
    text = " ".join(text.replace("%%", "%").split()).replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in every_file().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"{name} written")
