"""The operation ``unpack``: an artefact becomes ``releases/V``: checked, installed, tried."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import time
from pathlib import Path

from . import artefact, bytecode, environment, index, verify
from .answers import Refused, tell
from .files import sync_folder, write_whole
from .history import note
from .requests import by
from .use import remove_release, running_from

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from typing import Any

    from .layout import Host

INODES_MIN = 4000


def unpack(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Make ``releases/V`` of an artefact; a release that is whole already stays as it is."""
    began = time.monotonic()
    version = request["version"]
    folder = host.release(version)
    host.make()
    source = Path(request["file"])
    marker = host.verified(version)
    why = unusable(folder, marker) if folder.exists() else ""
    if marker is not None and not why:
        if marker.get("sha256") != request["sha256"]:
            raise Refused("conflict", f"{version} is here with other content; a version is never built twice")
        drop(host, source, request)
        return {"version": version, "unchanged": True}
    index.check(host, request)
    environment.pip_for(environment.python_of(folder))
    if folder.exists():
        remove_unusable(host, version, why)
    check_space(host, request)
    artefact.check(source, request)
    try:
        install(host, folder, source, request)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    drop(host, source, request)
    took_s = time.monotonic() - began
    note(host, action="unpack", version=version, ok=True, duration_s=took_s, **by(request))
    return {"version": version, "unchanged": False, "duration_s": took_s}


def unusable(folder: Path, marker: dict[str, Any] | None) -> str:
    """Return why a release that has a folder has to be made again; nothing for one that can be run."""
    if marker is None:
        return "it is half-made"
    if environment.has_lost_python(folder) or not environment.python_of(folder).exists():
        return "its Python is gone"
    wrong = verify.differences(folder, marker, is_quick=True)
    return f"it is damaged ({wrong[0]})" if wrong else ""


def remove_unusable(host: Host, version: str, why: str) -> None:
    """Remove a release that has to be made again, unless something runs from it; links may name it."""
    folder = host.release(version)
    reason = running_from(host).get(version)
    if reason:
        raise Refused("in-use", f"{folder} cannot be run again ({why}), and cannot be made again: {reason}")
    tell("clean", path=str(folder), message=f"{version} is removed: {why}")
    remove_release(folder)


def drop(host: Host, source: Path, request: dict[str, Any]) -> None:
    """Remove an artefact that was brought here for this and is not needed any more."""
    if request.get("brought") or source.parent == host.root / "cache":
        source.unlink(missing_ok=True)


def check_space(host: Host, request: dict[str, Any]) -> None:
    """Refuse to begin on a disk that will be full before the end."""
    disk = os.statvfs(host.releases)
    free_bytes = disk.f_bavail * disk.f_frsize
    need_bytes = max(int(request.get("min_free_bytes", 0)), 4 * request["size"])
    if free_bytes < need_bytes:
        raise Refused(
            "disk",
            f"{host.root} has {free_bytes / 2**20:.1f} MiB free, {need_bytes / 2**20:.1f} MiB are needed; "
            "make room (the task prune) or set min_free_bytes",
        )
    if disk.f_files and disk.f_favail < INODES_MIN:
        raise Refused(
            "disk",
            f"{host.root} has room for {disk.f_favail} more files, {INODES_MIN} are needed; make room "
            "(the task prune)",
        )


def install(host: Host, folder: Path, source: Path, request: dict[str, Any]) -> None:
    """Extract, check, install and try a release; the marker comes last."""
    version = request["version"]
    tell("extract", version=version)
    artefact.extract(source, folder, f"purgeline-{version}")
    artefact.check_manifest(folder, version)
    tell("install", version=version)
    environment.make(folder)
    bytecode.reuse(host, folder)
    tell("try", version=version)
    environment.try_engine(folder, version)
    contents = verify.recorded(folder)
    sync_files(folder)
    marker = {"version": version, "sha256": request["sha256"], "at": time.time(), **contents}
    write_whole(folder / ".verified", json.dumps(marker).encode())
    sync_folder(folder.parent)


def sync_files(folder: Path) -> None:
    """Write out the disk of *folder*: thousands of files in one call, and no other disk has to wait."""
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        os.sync()
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)
