"""Which releases are in use on this host, and so must stay; and removing one that is not."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from .control import running
from .files import sync_folder

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from .layout import Host


def in_use(host: Host) -> dict[str, str]:
    """Return versions that must stay, and why."""
    reasons = running_from(host)
    for name in ("previous", "current"):
        if host.linked(name):
            reasons[host.linked(name)] = f"it is {name}"
    return reasons


def running_from(host: Host) -> dict[str, str]:
    """Return versions that something runs from, and what."""
    reasons = dict.fromkeys(_used_by_processes(host.releases), "a process uses it")
    status = running(host)
    for worker in status.get("workers", []):
        reasons[str(worker.get("version"))] = "a worker runs it"
    if status.get("release_dir"):
        reasons[Path(status["release_dir"]).name] = "it runs"
    return reasons


def _used_by_processes(releases: Path) -> set[str]:
    """Return versions that a process was started from or works in; orphans of a killed supervisor, too.

    The program itself tells nothing: a venv's ``python`` is a link out of it.
    """
    start = os.fsencode(releases.resolve()) + b"/"
    names = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            paths = [(process / "cmdline").read_bytes().split(b"\0", 1)[0]]
            with contextlib.suppress(OSError):
                paths.append(os.fsencode((process / "cwd").readlink()))
            names |= {path[len(start) :].split(b"/")[0] for path in paths if path.startswith(start)}
    return {os.fsdecode(name) for name in names}


def remove_release(folder: Path) -> None:
    """Remove a release; from the first step on it does not count."""
    (folder / ".verified").unlink(missing_ok=True)
    shutil.rmtree(folder)
    sync_folder(folder.parent)
