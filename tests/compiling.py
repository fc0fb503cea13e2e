"""``python -m tests.compiling``: the hot modules still compile with mypyc, and import.

A smoke build in a folder of its own, without optimisation, thrown away. mypyc takes less of Python than
CPython does (no async generators, exact types), so code that it refuses is found here, early. With
``--tests`` what was built passes the unit tests of its modules: what mypy cannot see is found by running.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from release.build import compiled
from release.errors import ArtefactError

ROOT = Path(__file__).resolve().parents[1]
IMPORT = "import importlib, sys; [print(importlib.import_module(name).__file__) for name in sys.argv[1:]]"


def main(*, with_tests: bool) -> int:
    """Compile the hot modules and import them. Returns the exit code; 0 also where that is not possible."""
    if why := compiled.why_not():
        print(f"not tried: {why}")
        return 0
    with tempfile.TemporaryDirectory(prefix="purgeline-compiling-") as name:
        folder = Path(name)
        try:
            built = compiled.build(ROOT, folder / "kept", level="0")
        except ArtefactError as exc:
            print(exc)
            return 1
        shutil.copytree(ROOT / "engine", folder / "engine", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(built.folder, folder, dirs_exist_ok=True)
        tried = subprocess.run(
            [sys.executable, "-c", IMPORT, *compiled.HOT],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PURGELINE_INTERPRETED": "1"},
        )
        interpreted = [line for line in tried.stdout.splitlines() if line.endswith(".py")]
        if tried.returncode or interpreted:
            print(tried.stderr, *interpreted, sep="\n")
            return 1
        if with_tests and (code := passed(folder)):
            return code
    print(f"{len(compiled.HOT)} modules compile")
    return 0


def passed(folder: Path) -> int:
    """Run the unit tests that are named after compiled modules on those in *folder*; return pytest's code."""
    names = sorted({name.rpartition(".")[2] for name in compiled.HOT})
    files = [file for name in names if (file := ROOT / "tests/unit/engine" / f"test_{name}.py").is_file()]
    options = ["-q", "-n", "2", "-p", "no:cacheprovider", "-o", f"pythonpath={folder} {ROOT}"]
    environment = {"PURGELINE_INTERPRETED": "1", "PURGELINE_TEST_FORM": "compiled"}  # the finder knows others
    command = [sys.executable, "-m", "pytest", *options, *map(str, files)]
    return subprocess.run(command, check=False, cwd=ROOT, env={**os.environ, **environment}).returncode


if __name__ == "__main__":
    raise SystemExit(main(with_tests="--tests" in sys.argv[1:]))
