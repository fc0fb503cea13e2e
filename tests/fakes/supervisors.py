"""Supervisors of other versions: the tree's own with some lines changed, and that of a commit before."""

import subprocess
from pathlib import Path

import pytest

from release.agent import package
from release.build.shipped import supervisor_file

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "engine/supervisor"
BEFORE = "ea3d3bc"  #: the last commit whose supervisor and agent were shipped as single files

Edit = tuple[str, str, str]  #: file; text that it has once, empty: its end; what comes instead


def modules(*edits: Edit) -> dict[str, bytes]:
    """Return the supervisor's modules, changed."""
    files = package.contents(FOLDER)
    for name, before, after in edits:
        text = files[name].decode()
        assert not before or text.count(before) == 1, (name, before)
        files[name] = (text.replace(before, after) if before else text + after).encode()
    return files


def copy(folder: Path, *edits: Edit) -> Path:
    """Make a folder of the supervisor's modules, changed."""
    package.place(modules(*edits), folder)
    return folder


def install(shared: Path, *edits: Edit) -> Path:
    """Put a supervisor into ``shared/`` of a host, as a deploy does; return its folder."""
    files = modules(*edits)
    folder = copy(shared / f"supervisor-{package.digest_of(files)}", *edits)
    put_file(shared, supervisor_file(files).encode())
    return folder


def put_file(shared: Path, text: bytes) -> None:
    """Replace ``supervisor.py`` of a host."""
    aside = shared / "supervisor.py.new"
    aside.write_bytes(text)
    aside.replace(shared / "supervisor.py")


def one_file(name: str = "engine/supervisor.py") -> bytes:
    """Return the supervisor, or the agent, that was shipped as a single file, from the history."""
    where = f"{BEFORE}:{name}"
    done = subprocess.run(["git", "show", where], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.fail(f"git has no {where}; the history is needed here: {done.stderr.decode().strip()}")
    return done.stdout
