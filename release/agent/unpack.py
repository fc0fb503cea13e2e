"""The operation ``unpack``: an artefact becomes ``releases/V``: checked, installed, tried."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import time
from pathlib import Path

from . import artefact, environment, index
from .answers import Refused, tell
from .digests import lasting_files, sha256_of
from .files import sync_folder, write_whole
from .history import note
from .requests import by
from .use import in_use, remove_release

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
    if marker is not None and environment.python_of(folder).exists():
        if marker.get("sha256") != request["sha256"]:
            raise Refused("conflict", f"{version} is here with other content; a version is never built twice")
        drop(host, source)
        return {"version": version, "unchanged": True}
    index.check(host, request)
    environment.pip_for(environment.python_of(folder))
    if folder.exists():
        remove_unusable(host, version, is_half_made=marker is None)
    check_space(host, request)
    artefact.check(source, request)
    try:
        install(folder, source, request)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    drop(host, source)
    took_s = time.monotonic() - began
    note(host, action="unpack", version=version, ok=True, duration_s=took_s, **by(request))
    return {"version": version, "unchanged": False, "duration_s": took_s}


def remove_unusable(host: Host, version: str, *, is_half_made: bool) -> None:
    """Remove a release that has to be made again, unless something uses it."""
    folder = host.release(version)
    reason = in_use(host).get(version)
    if reason:
        raise Refused("in-use", f"{folder} is not whole, but cannot be made again: {reason}")
    what = f"a half-made {version}" if is_half_made else f"{version}, whose Python is gone,"
    tell("clean", path=str(folder), message=f"{what} is removed")
    remove_release(folder)


def drop(host: Host, source: Path) -> None:
    """Remove an artefact that was brought here for this and is not needed any more."""
    if source.parent == host.root / "cache":
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
            "make room (inv prune) or set min_free_bytes",
        )
    if disk.f_files and disk.f_favail < INODES_MIN:
        raise Refused(
            "disk",
            f"{host.root} has room for {disk.f_favail} more files, {INODES_MIN} are needed; make room "
            "(inv prune)",
        )


def install(folder: Path, source: Path, request: dict[str, Any]) -> None:
    """Extract, check, install and try a release; the marker comes last."""
    version = request["version"]
    tell("extract", version=version)
    artefact.extract(source, folder, f"purgeline-{version}")
    artefact.check_manifest(folder, version)
    tell("install", version=version)
    environment.make(folder)
    tell("try", version=version)
    environment.try_engine(folder, version)
    files = {name: sha256_of(path) for name, path in lasting_files(folder).items()}
    sync_files(folder)
    marker = {"version": version, "sha256": request["sha256"], "at": time.time(), "files": files}
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
