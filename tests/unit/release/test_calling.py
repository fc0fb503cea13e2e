"""release.calling: what is printed as a command is one that the caller can use."""

import ast
import re
import sys
from pathlib import Path

import pytest

from release.calling import call

RELEASE = Path(__file__).resolve().parents[3] / "release"
#: A task called by its script; a task's own name is quoted where it is no command.
WRITTEN_OUT = re.compile(r"(?<!`)(?:\./)?\binv (?=[a-z]+\b)")


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("/srv/checkout/.venv/bin/invoke", "./inv plan"),
        ("/usr/lib/python3/site-packages/release/__main__.py", "python -m release plan"),
        ("/usr/lib/python3/site-packages/pytest/__main__.py", "./inv plan"),
    ],
)
def test_a_task_is_named_as_this_program_was_called(
    program: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    assert call("plan") == command


def test_no_message_writes_the_command_out() -> None:
    """But for the demo, which a checkout alone has."""
    found = [
        f"{path.relative_to(RELEASE)}:{text.lineno}: {str(text.value).strip()[:60]}"
        for path in RELEASE.rglob("*.py")
        if "demo" not in path.parts
        for text in _texts(ast.parse(path.read_text()))
        if WRITTEN_OUT.search(str(text.value))
    ]
    assert found == []


def _texts(tree: ast.Module) -> list[ast.Constant]:
    """Return the texts of a module that are no docstrings."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return [node for node in nodes if isinstance(node.value, str) and id(node) not in docstrings]
