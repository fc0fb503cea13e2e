"""The operation ``facts``: what decides whether this host can take a release."""

from __future__ import annotations

import os
import platform
import socket

import tomllib

from .answers import Refused
from .control import is_supervised
from .environment import has_lost_python
from .index import yanked
from .lock import held
from .service import unit_workers, uses_systemd
from .status import status
from .tags import platform_tag, python_tag

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from typing import Any

    from .layout import Host


def look(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Return the facts and, as ``status``, what `status` answers: all that a plan is made of, in one call.

    ``status`` has ``ok``, and where that is false an ``error``.
    """
    try:
        found = {"ok": True, **status(host, request)}
    except Refused as exc:
        found = {"ok": False, "kind": exc.kind, "error": str(exc)}
    return {**facts(host, request), "status": found}


def facts(host: Host, _request: dict[str, Any]) -> dict[str, Any]:
    """Return Python, platform, room on the disk (bytes), releases, lock and who starts the engine.

    Releases are known by what they were made of: ``digests`` has the artefact's SHA-256 of each.
    """
    folder = host.root
    while not folder.exists():
        folder = folder.parent
    disk = os.statvfs(folder)
    digests = {
        name: sha256 for name, sha256 in host.digests().items() if not has_lost_python(host.release(name))
    }
    return {
        "python": platform.python_version(),
        "python_tag": python_tag(),
        "platform": platform_tag(),
        "free_bytes": disk.f_bavail * disk.f_frsize,
        "hostname": socket.gethostname(),
        "uid": os.geteuid(),
        "current": host.linked("current"),
        "previous": host.linked("previous"),
        "releases": list(digests),
        "digests": digests,
        "listen": listen_of(host),
        "yanked": yanked(host),
        "lock": held(host),
        "service": "systemd" if uses_systemd(host, None) else "direct",
        "unit_workers": unit_workers(host),
        "is_supervised": is_supervised(host),
    }


def listen_of(host: Host) -> str:
    """Return ``engine.listen`` of the configuration; nothing when it is not there, or not ours to read."""
    try:
        table = tomllib.loads(host.config.read_text()).get("engine", {})
        return str(table.get("listen", ""))
    except (OSError, ValueError, AttributeError):
        return ""
