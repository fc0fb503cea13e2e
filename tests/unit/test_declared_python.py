"""Which Python is declared: one oldest version, wherever it is said. ruff and mypy hold the code to it."""

from __future__ import annotations

import re
import tomllib

from tests.interpreters import NEWEST, OLDEST, Interpreter, newest_of_each
from tests.pages import DOCS

ROOT = DOCS.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_oldest_python_is_the_same_wherever_it_is_said() -> None:
    oldest = f"3.{OLDEST}"
    assert PROJECT["project"]["requires-python"] == f">={oldest}"
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py3{OLDEST}"
    assert PROJECT["tool"]["mypy"]["python_version"] == oldest
    assert f"sys.version_info >= (3, {OLDEST})" in (ROOT / "inv").read_text()
    for page in ("README.md", "docs/contributing.md"):
        said = set(re.findall(r"Python (?:≥ )?(3\.\d+)", (ROOT / page).read_text()))
        assert said <= {oldest}, page


def test_the_newest_of_each_interpreter_is_taken() -> None:
    found = [
        Interpreter(12, 1, False, "a"),
        Interpreter(12, 10, False, "b"),
        Interpreter(13, 0, True, "c"),
        Interpreter(13, 0, False, "d"),
    ]
    assert [one.path for one in newest_of_each(found)] == ["b", "d", "c"]
    assert OLDEST < NEWEST
