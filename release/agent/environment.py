"""The virtual environment of a release: made, filled with its wheels, tried."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from .answers import Refused
from .command import run

MINOR = re.compile(r"python3\.\d+")
#: The lock names all that is needed: the try that ends each `pack` has pip work the dependencies out, with
#: the same wheels on the same Python and platform. The environment is empty. So pip does neither here.
PIP_OPTIONS = (
    *("install", "--no-index", "--find-links", "wheels", "--require-hashes", "--no-compile"),
    *("--no-cache-dir", "--only-binary=:all:", "--disable-pip-version-check", "--no-input", "-q"),
    *("--no-deps", "--ignore-installed"),
    *("-r", "requirements.txt"),
)
#: Compiles all that is installed and has no bytecode yet (see `bytecode`), so that none comes later, and
#: prints the version. Which modules an engine has is its own business: a release of any time is tried so.
IMPORT_ALL = """
import compileall, importlib.util, json, os, pathlib, pkgutil, py_compile, sys
form = py_compile.PycInvalidationMode.UNCHECKED_HASH
for path in map(str, pathlib.Path(sys.prefix, "lib").rglob("*.py")):
    if not os.path.exists(importlib.util.cache_from_source(path)):
        compileall.compile_file(path, quiet=2, invalidation_mode=form)
import engine
for module in pkgutil.walk_packages(engine.__path__, "engine."):
    if not module.name.endswith(".__main__"):
        importlib.import_module(module.name)
from engine import _version
print(json.dumps(_version.__version__))
"""


def python_of(release: Path) -> Path:
    """Return the interpreter of a release."""
    return release / "venv/bin/python"


def has_lost_python(release: Path) -> bool:
    """Tell whether the interpreter that a release was made with is gone, or another minor version now."""
    python = python_of(release)
    if not python.is_symlink():
        return False
    name = os.path.basename(os.path.realpath(python))  # noqa: PTH119 - resolve() may fail here
    is_other = MINOR.fullmatch(name) and not (release / "venv/lib" / name).is_dir()
    return not python.exists() or bool(is_other)


def make(release: Path) -> None:
    """Install the wheels of a release into an environment of its own, without network.

    The environment names the interpreter itself and not a link such as ``python3``, which the system points
    to another minor version one day.
    """
    python = python_of(release)
    folder = str(release / "venv")
    base = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    run([base, "-I", "-m", "venv", "--without-pip", folder], "make the venv", release)
    run([*pip_for(python), *PIP_OPTIONS], "install the wheels", release)
    shutil.rmtree(release / "wheels")


def pip_for(python: Path) -> list[str]:
    """Return a command that is pip for *python*: this interpreter's, or a wheel that came with it.

    pip's ``--python`` starts pip here first, which then starts its runner there: the runner alone is half a
    second of work less.
    """
    own = find_spec("pip")
    if own is not None:
        runner = Path(str(own.origin)).with_name("__pip-runner__.py")
        if runner.is_file():
            return [str(python), "-I", str(runner)]
        return [sys.executable, "-I", "-m", "pip", "--python", str(python)]  # older than 22.3
    places = [Path("/usr/share/python-wheels")]
    bundled = find_spec("ensurepip")
    if bundled is not None and bundled.origin:
        places.insert(0, Path(bundled.origin).parent / "_bundled")
    for place in places:
        for wheel in sorted(place.glob("pip-*.whl"), reverse=True):
            return [str(python), "-I", str(wheel / "pip")]
    raise Refused("missing", "this host has neither pip nor ensurepip: apt install python3-venv")


def try_engine(release: Path, version: str) -> None:
    """Compile every module, import those of the engine, and ask its version.

    The bytecode is taken as it is from then on: its digest is kept, and a source is not compared with it.

    Raises:
        Refused: a module cannot be imported, or the engine says another version.
    """
    command = [str(python_of(release)), "-I", "-c", IMPORT_ALL]
    said = run(command, "import the engine", release).strip().splitlines()
    if not said or said[-1] != json.dumps(version):
        raise Refused(
            "version", f"the release says that it is {said[-1] if said else 'nothing'}, not {version}"
        )
