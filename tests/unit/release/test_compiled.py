"""release.build.compiled: which modules are compiled, of which sources, and where that cannot be."""

import ast
import importlib
import os
import pkgutil
import sys
from pathlib import Path

import pytest

import engine
from release.build import compiled
from release.settings import ROOT

OWN = f"cp3{sys.version_info.minor}"
MACHINE = f"linux_{os.uname().machine}"


def test_every_hot_module_is_there() -> None:
    sources = compiled.sources(ROOT)
    assert {f"{name.replace('.', '/')}.py" for name in compiled.HOT} <= set(sources)
    assert list(compiled.HOT) == sorted(set(compiled.HOT))


def test_a_source_that_is_imported_for_types_or_in_a_function_counts(tmp_path: Path) -> None:
    """What is not imported does not: a change of it compiles nothing again."""
    for name, text in {
        "engine/base/timer.py": "if T:\n    from engine.tasks.words import Word\n",
        "engine/tasks/words.py": "def f():\n    import engine.errors\n",
        "engine/errors.py": "import os\n",
        "engine/tasks/__init__.py": "",
        "engine/cli.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert list(compiled.sources(tmp_path)) == [
        "engine/base/timer.py",
        "engine/errors.py",
        "engine/tasks/__init__.py",
        "engine/tasks/words.py",
    ]


@pytest.mark.parametrize(
    ("python", "platform", "why"),
    [
        ("cp399", MACHINE, f"this is {OWN} on {MACHINE}, not cp399 on {MACHINE}"),
        (OWN, "linux_riscv64", f"this is {OWN} on {MACHINE}, not {OWN} on linux_riscv64"),
    ],
)
def test_nothing_is_compiled_for_another_python_or_machine(python: str, platform: str, why: str) -> None:
    assert compiled.why_not(python, platform) == why


def test_without_a_compiler_the_reason_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_compiler", lambda: "no-such-compiler")
    assert compiled.why_not() == "no C compiler (no-such-compiler) is installed"


def test_no_interpreted_class_inherits_from_a_compiled_one() -> None:
    """The first instance would raise `TypeError`: both modules are hot, or none is."""
    found = []
    for module in pkgutil.walk_packages(engine.__path__, "engine."):
        if module.name.endswith("__main__") or module.name in compiled.HOT:
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and value.__module__ == module.name:
                bases = [base for base in value.__bases__ if base.__module__ in compiled.HOT]
                found += [f"{module.name}.{value.__name__} of {base.__name__}" for base in bases]
    assert found == []


def test_no_compiled_class_says_something_that_the_compiler_drops() -> None:
    """What stands in the brackets of a class besides its bases, such as ``omit_defaults``, is lost in C."""
    for name in compiled.HOT:
        tree = ast.parse((ROOT / f"{name.replace('.', '/')}.py").read_text())
        said = [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.keywords]
        assert not said, f"{name}: {said}"
