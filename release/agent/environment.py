"""The virtual environment of a release: made, filled with its wheels, tried."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from .answers import Refused
from .command import run

PIP_OPTIONS = (
    *("install", "--no-index", "--find-links", "wheels", "--require-hashes", "--no-compile"),
    *("--no-cache-dir", "--only-binary=:all:", "--disable-pip-version-check", "--no-input", "-q"),
    *("-r", "requirements.txt"),
)
#: Prints the version. Which modules an engine has is its own business: a release of any time is tried so.
IMPORT_ALL = """
import importlib, json, pkgutil, engine
for module in pkgutil.walk_packages(engine.__path__, "engine."):
    if not module.name.endswith(".__main__"):
        importlib.import_module(module.name)
from engine import _version
print(json.dumps(_version.__version__))
"""


def python_of(release: Path) -> Path:
    """Return the interpreter of a release."""
    return release / "venv/bin/python"


def make(release: Path) -> None:
    """Install the wheels of a release into an environment of its own, without network."""
    python = python_of(release)
    folder = str(release / "venv")
    run([sys.executable, "-I", "-m", "venv", "--without-pip", folder], "make the venv", release)
    run([*pip_for(python), *PIP_OPTIONS], "install the wheels", release)
    shutil.rmtree(release / "wheels")


def pip_for(python: Path) -> list[str]:
    """Return a command that is pip for *python*: this interpreter's, or a wheel that came with it."""
    if find_spec("pip") is not None:
        return [sys.executable, "-I", "-m", "pip", "--python", str(python)]
    places = [Path("/usr/share/python-wheels")]
    bundled = find_spec("ensurepip")
    if bundled is not None and bundled.origin:
        places.insert(0, Path(bundled.origin).parent / "_bundled")
    for place in places:
        for wheel in sorted(place.glob("pip-*.whl"), reverse=True):
            return [str(python), "-I", str(wheel / "pip")]
    raise Refused("missing", "this host has neither pip nor ensurepip: apt install python3-venv")


def try_engine(release: Path, version: str) -> None:
    """Import every module of the engine, which also writes its bytecode, and ask its version.

    Raises:
        Refused: a module cannot be imported, or the engine says another version.
    """
    command = [str(python_of(release)), "-I", "-c", IMPORT_ALL]
    said = run(command, "import the engine", release).strip().splitlines()
    if not said or said[-1] != json.dumps(version):
        raise Refused(
            "version", f"the release says that it is {said[-1] if said else 'nothing'}, not {version}"
        )
