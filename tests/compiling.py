"""``python -m tests.compiling``: the hot modules still compile with mypyc, and import.

A smoke build in a folder of its own, thrown away: the engine itself runs interpreted. mypyc takes less of
Python than CPython does (no async generators, exact types), so code that it refuses is found here, early.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOT = (
    "engine/base/timer.py",
    "engine/delivery/dispatch.py",
    "engine/delivery/endings.py",
    "engine/delivery/expansion.py",
    "engine/delivery/inbox.py",
    "engine/delivery/journal_rows.py",
    "engine/delivery/load.py",
    "engine/delivery/parking.py",
    "engine/delivery/touched.py",
    "engine/intake/admission.py",
    "engine/intake/fast_lane.py",
    "engine/intake/heads.py",
    "engine/intake/pipeline.py",
    "engine/intake/replies.py",
    "engine/intake/room.py",
    "engine/intake/targets.py",
    "engine/intake/task_replies.py",
    "engine/intake/urls.py",
    "engine/nodes/answer.py",
    "engine/nodes/channel.py",
    "engine/nodes/connection.py",
    "engine/nodes/counting.py",
    "engine/nodes/health.py",
    "engine/nodes/holds.py",
    "engine/nodes/judge.py",
    "engine/nodes/node.py",
    "engine/nodes/queue.py",
    "engine/nodes/readings.py",
    "engine/nodes/runs.py",
    "engine/nodes/suspects.py",
    "engine/nodes/wire.py",
    "engine/saver/own_records.py",
    "engine/saver/saver.py",
    "engine/saver/work.py",
    "engine/tasks/region.py",
    "engine/tasks/task.py",
)
"""What runs for each task, purge or answer."""

_BUILD = """
import sys
from mypyc.build import mypycify
from setuptools import setup
sys.argv[1:] = ["-q", "build_ext", "--inplace"]
setup(name="smoke", packages=[], ext_modules=mypycify({paths!r}, opt_level="0", debug_level="0"))
"""


def main() -> int:
    """Compile the hot modules and import them. Returns the exit code; 0 also without a C compiler."""
    if shutil.which("cc") is None:
        print("no C compiler here: not tried")
        return 0
    with tempfile.TemporaryDirectory(prefix="purgeline-compiling-") as name:
        folder = Path(name)
        shutil.copytree(ROOT / "engine", folder / "engine", ignore=shutil.ignore_patterns("__pycache__"))
        build = _run(folder, _BUILD.format(paths=list(HOT)))
        if build.returncode:
            print(build.stdout + build.stderr)
            return 1
        modules = [path.removesuffix(".py").replace("/", ".") for path in HOT]
        code = (
            "import importlib, sys; [print(importlib.import_module(name).__file__) for name in sys.argv[1:]]"
        )
        tried = _run(folder, code, *modules)
        interpreted = [line for line in tried.stdout.splitlines() if line.endswith(".py")]
        if tried.returncode or interpreted:
            print(tried.stderr, *interpreted, sep="\n")
            return 1
    print(f"{len(HOT)} modules compile")
    return 0


def _run(folder: Path, code: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run Python code where the copy is."""
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )


if __name__ == "__main__":
    raise SystemExit(main())
