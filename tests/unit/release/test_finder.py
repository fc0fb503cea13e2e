"""release.build.finder: compiled modules of a checkout are found as long as its sources are the same."""

import sys
from pathlib import Path

import pytest

from release.build import finder
from release.build.finder import BUILT, OFF, STAMPS, Finder

NAME = "engine.nodes.wire"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of two sources, of which one is compiled."""
    lines = []
    for name in ("engine/nodes/wire.py", "engine/errors.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("A = 1\n")
        lines.append(f"{path.stat().st_mtime_ns} {path.stat().st_size} {name}\n")
    for name in ("engine/nodes/wire", "purgeline__mypyc"):
        path = tmp_path / BUILT / f"{name}.cpython-311-x86_64-linux-gnu.so"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / BUILT / STAMPS).write_text("".join(lines))
    return tmp_path


def origin(checkout: Path, name: str = NAME, package: Path | None = None) -> str | None:
    """Return where a fresh Python would find a module."""
    path = [str(package or checkout / "engine/nodes")] if "." in name else None
    spec = Finder(str(checkout)).find_spec(name, path)
    return None if spec is None else spec.origin


def test_a_compiled_module_is_found_and_the_library_of_all(checkout: Path) -> None:
    assert origin(checkout) == str(checkout / BUILT / "engine/nodes/wire.cpython-311-x86_64-linux-gnu.so")
    assert origin(checkout, "engine.nodes.queue") is None
    finder = Finder(str(checkout))
    assert finder.find_spec(NAME, [str(checkout / "engine/nodes")]) is not None
    assert finder.find_spec("purgeline__mypyc") is not None
    assert finder.find_spec("other__mypyc") is None


def test_compiled_modules_of_another_engine_get_their_own_library(checkout: Path, tmp_path: Path) -> None:
    """Such as those of an installed wheel: its modules and this library would be of different sources."""
    finder = Finder(str(checkout))
    assert finder.find_spec(NAME, [str(tmp_path / "site-packages/engine/nodes")]) is None
    assert finder.find_spec("purgeline__mypyc") is None


@pytest.mark.parametrize("changed", ["engine/nodes/wire.py", "engine/errors.py"])
def test_after_a_change_of_any_source_none_is_found(checkout: Path, changed: str) -> None:
    """Also of a source that is not compiled itself: its constants are in the others."""
    (checkout / changed).write_text("A = 2\n")
    assert origin(checkout) is None


def test_a_source_that_is_gone_and_a_build_that_is_gone_are_no_error(checkout: Path) -> None:
    (checkout / "engine/errors.py").unlink()
    assert origin(checkout) is None
    (checkout / BUILT / STAMPS).unlink()
    assert origin(checkout) is None


def test_the_modules_of_another_checkout_stay_its_own(checkout: Path, tmp_path: Path) -> None:
    assert origin(checkout, package=tmp_path / "another/engine/nodes") is None


def test_it_can_be_left_out(monkeypatch: pytest.MonkeyPatch, checkout: Path) -> None:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    before = len(sys.meta_path)
    monkeypatch.setenv(OFF, "1")
    finder.install(str(checkout))
    assert len(sys.meta_path) == before
    monkeypatch.delenv(OFF)
    finder.install(str(checkout))
    assert isinstance(sys.meta_path[0], Finder)


def test_it_costs_a_start_of_python_nothing_but_itself() -> None:
    """Each start of this environment's Python imports it."""
    text = Path(finder.__file__).read_text(encoding="utf-8")
    imports = [line for line in text.splitlines() if line.startswith(("import", "from"))]
    assert imports == ["from __future__ import annotations", "import os", "import sys"]
