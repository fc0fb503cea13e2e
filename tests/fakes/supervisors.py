"""Supervisors of other versions: the tree's own, with some lines changed."""

import shutil
from pathlib import Path

from engine.supervisor.__main__ import digest_of
from release.build.shipped import supervisor_file

FOLDER = Path(__file__).resolve().parents[2] / "engine/supervisor"

Edit = tuple[str, str, str]  #: file; text that it has once, empty: its end; what comes instead


def copy(folder: Path, *edits: Edit) -> Path:
    """Copy the supervisor's folder to *folder*, which is made, and change it."""
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name, before, after in edits:
        text = (folder / name).read_text()
        assert not before or text.count(before) == 1, (name, before)
        (folder / name).write_text(text.replace(before, after) if before else text + after)
    return folder


def install(shared: Path, *edits: Edit) -> Path:
    """Put a supervisor into ``shared/`` of a host, as a deploy does; return its folder."""
    made = copy(shared / ".supervisor", *edits)
    folder = shared / f"supervisor-{digest_of(made)}"
    shutil.rmtree(folder, ignore_errors=True)
    file = shared / "supervisor.py.new"
    file.write_text(supervisor_file(made))
    made.rename(folder)
    file.replace(shared / "supervisor.py")
    return folder
