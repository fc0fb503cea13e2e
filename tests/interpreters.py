"""``./inv test --pythons``: the unit tests on every other interpreter that this machine has.

Interpreters are looked for as ``python3.N`` on PATH, in pyenv's folder and in uv's: those that are new
enough and have ``venv``. Each gets an environment of its own, ``.venv-3.N``, filled by hash from
requirements-dev.lock. The types are checked for the newest Python that mypy knows, which needs no
interpreter. What is declared is held together by tests/unit/test_declared_python.py. Free-threaded builds
are named, and not used.

``--quick``, which `./inv check --pythons` runs: all modules are imported, and of the tests those run that
look at what differs between Pythons (`QUICK`), some seconds each.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

from release.errors import ReleaseError
from release.lab.environment import Environment
from release.settings import ROOT

NEWEST: Final = 14  #: 3.N that types are checked for, and the last that is looked for
OLDEST: Final = 11
#: Every module imported; texts of the standard library, bytes, numbers, dates, tuples, the loop's timing,
#: and types that msgspec reads.
QUICK: Final = (
    "tests/service/test_extras.py",
    *(
        f"tests/unit/engine/test_{name}.py"
        for name in (
            *("arguments", "config", "documents", "exchange", "openapi", "problems", "queue", "records"),
            *("task_body", "timer", "tuples", "urls", "validate", "wire", "words"),
        )
    ),
)
_ASK: Final = (
    "import sys, sysconfig, venv, ensurepip; "
    "print(*sys.version_info[:3], int(bool(sysconfig.get_config_var('Py_GIL_DISABLED'))))"
)


class Interpreter(NamedTuple):
    """One that runs."""

    minor: int
    micro: int
    is_free_threaded: bool
    path: str

    def __str__(self) -> str:
        return f"3.{self.minor}.{self.micro}{' free-threaded' if self.is_free_threaded else ''}"


def candidates(environ: dict[str, str]) -> list[str]:
    """Return programs that may be interpreters, those on PATH first."""
    home = Path(environ.get("HOME") or "/")
    folders = [
        Path(environ.get("PYENV_ROOT") or home / ".pyenv") / "versions",
        Path(environ.get("UV_PYTHON_INSTALL_DIR") or home / ".local/share/uv/python"),
    ]
    found: list[str] = []
    for minor in range(OLDEST, NEWEST + 1):
        name = f"python3.{minor}"
        if (path := shutil.which(name, path=environ.get("PATH"))) is not None:
            found.append(path)
        found += (str(path) for folder in folders for path in sorted(folder.glob(f"*/bin/{name}")))
    return found


def look_at(path: str) -> Interpreter | None:
    """Return what a program is; None: it does not run, or cannot make environments."""
    try:
        done = subprocess.run(
            [path, "-I", "-c", _ASK], capture_output=True, text=True, check=True, timeout=60
        )
        _, minor, micro, is_free = map(int, done.stdout.split())
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return Interpreter(minor, micro, bool(is_free), path)


def newest_of_each(found: list[Interpreter]) -> list[Interpreter]:
    """Return the newest of each minor version, with and without a GIL."""
    best: dict[tuple[int, bool], Interpreter] = {}
    for one in found:
        key = one.minor, one.is_free_threaded
        if key not in best or one.micro > best[key].micro:
            best[key] = one
    return [best[key] for key in sorted(best)]


def main() -> int:
    """Run the tests, say what was found, and return 1 when some fail."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="some tests alone, and no types")
    is_quick = parser.parse_args().quick
    seen = [one for path in candidates(dict(os.environ)) if (one := look_at(path)) is not None]
    found = newest_of_each(seen)
    others = [one for one in found if one.minor != sys.version_info.minor and not one.is_free_threaded]
    print(f"found: {', '.join(map(str, found)) or 'none'}; this one is {sys.version.split()[0]}", flush=True)
    missing = set(range(OLDEST, NEWEST + 1)) - {one.minor for one in others} - {sys.version_info.minor}
    for minor in sorted(missing):
        print(f"not here: 3.{minor}", flush=True)
    failed = []
    types = [sys.executable, "-m", "mypy", f"--python-version=3.{NEWEST}", "engine", "release"]
    if not is_quick and subprocess.run(types, cwd=ROOT, check=False).returncode:
        failed.append(f"types of 3.{NEWEST}")
    for one in others:
        name = f"3.{one.minor}"
        try:
            programs = Environment(name, "a minute", of="dev", python=one.path).ensure()
        except ReleaseError as exc:
            print(exc)
            failed.append(name)
            continue
        print(f"{one}: {'some' if is_quick else 'the'} unit tests", flush=True)
        chosen = ("-n", "0", *QUICK) if is_quick else ("-n", "2", "tests/unit")
        tests = [str(programs / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen]
        if subprocess.run(tests, cwd=ROOT, check=False).returncode:
            failed.append(str(one))
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
