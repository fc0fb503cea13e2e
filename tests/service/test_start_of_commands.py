"""What a command imports before it does anything: that is most of what its user waits for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.pages import DOCS

_NEVER = {"aiohttp", "asyncio", "jinja2", "msgspec", "rich", "uvloop", "inspect", "dataclasses"}
_DEAR = {"shutil", "bz2", "lzma", "subprocess", "threading", "ipaddress", "random", "tempfile", "difflib"}
_WIRE = {"http.client", "email.parser", "ssl", "socket"}


def imported(*words: str) -> set[str]:
    """Return the modules that are loaded when the words have been read, in a process of its own."""
    code = (
        "import sys; before = set(sys.modules)\n"
        "from engine.cli import main; from engine.cli.arguments import parse\n"
        "try: parse(sys.argv[1:])\nexcept SystemExit: pass\n"
        "sys.stderr.write(' '.join(set(sys.modules) - before))"
    )
    command = [sys.executable, "-S", "-c", code, *words]  # without site: it imports what a venv's hooks want
    done = subprocess.run(command, cwd=DOCS.parent, capture_output=True, text=True, check=True, timeout=60)
    return set(done.stderr.split())


def test_the_version_is_told_without_what_talks_to_an_engine() -> None:
    found = imported("--version")
    assert not found & (_NEVER | (_DEAR - {"ipaddress"}) | _WIRE)
    ours = {name for name in found if name.startswith("engine.cli.")}
    assert ours == {
        f"engine.cli.{name}"
        for name in (
            "arguments",
            "cells",
            "commands",
            "exits",
            "layout",
            "main",
            "meant",
            "parser",
            "screen",
            "values",
            "waiting",
        )
    }


@pytest.mark.parametrize("words", [("nodes",), ("status", "a"), ("purge", "http://a/1")])
def test_a_command_imports_what_it_needs_alone(words: tuple[str, ...]) -> None:
    found = imported(*words)
    assert not found & (_NEVER | {"subprocess", "threading", "shutil", "tempfile", "difflib"})
    others = {
        "cdni",
        "debugging",
        "recording",
        "replaying",
        "group_reports",
        "receipts",
        "doctor",
        "silences",
        "top",
    }
    assert not found & {f"engine.cli.{name}" for name in others}
