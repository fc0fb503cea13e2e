"""The supervisor's program on this host: put in place from a release, and taken up by the one that runs.

A release has ``supervisor/``, the package, and ``supervisor.py``, which runs the package of one digest and
no other. On the host the package is ``shared/supervisor-DIGEST/``, and ``shared/supervisor.py`` is what is
started. The folder comes first and whole, then the file by rename: wherever that is cut off, the file that
is there names a folder that is there. An older release has a ``supervisor.py`` that needs no folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time

from . import package
from .answers import Refused, tell
from .control import ask, is_supervised, running
from .files import write_whole

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from pathlib import Path

    from .layout import Host

REPLACE_WAIT_S = 10.0
FOLDER = re.compile(r"supervisor-[0-9a-f]{64}(\.(part|old)-[0-9a-f]+)?")


def install_supervisor(host: Host, release: Path, *, is_way_back: bool) -> None:
    """Have the supervisor of a release in place, and running when one runs.

    On the way back the newer one may stay: an older file need not understand its state, and that must not
    keep anybody from the older engine.

    Raises:
        Refused: the new supervisor cannot take over; the old file is in place again.
        OSError: it cannot be written.
    """
    modules = package.contents(release / "supervisor")
    folder = host.shared / f"supervisor-{package.digest_of(modules)}"
    if modules:
        package.place(modules, folder)
    wanted = (release / "supervisor.py").read_bytes()
    before = host.supervisor.read_bytes() if host.supervisor.exists() else None
    if before != wanted:
        write_whole(host.supervisor, wanted)
    digest = hashlib.sha256(wanted).hexdigest()
    why = ""
    if running(host).get("supervisor_sha256", digest) != digest:
        tell("replace", message="the supervisor replaces itself")
        why = replace_supervisor(host, digest)
    if not why:
        remove_others(host, folder)
        return
    if before is not None:  # its folder is still there
        write_whole(host.supervisor, before)
    if not is_way_back or not is_supervised(host):
        raise Refused("supervisor", f"the new supervisor cannot take over: {why}")
    tell("kept", message=f"the supervisor stays, the older one cannot take over: {why}")


def remove_others(host: Host, kept: Path) -> None:
    """Remove the supervisor's folders that nothing starts any more."""
    for path in host.shared.iterdir():
        if FOLDER.fullmatch(path.name) and path != kept:
            package.remove(path)


def replace_supervisor(host: Host, digest: str) -> str:
    """Have the supervisor execute what is in place now; return why it does not."""
    try:
        answer = ask(host, {"cmd": "replace", "supervisor": str(host.supervisor)}, timeout_s=REPLACE_WAIT_S)
    except Refused as exc:
        return str(exc)
    until = time.monotonic() + REPLACE_WAIT_S
    while answer.get("ok") and time.monotonic() < until:
        with contextlib.suppress(Refused):
            if ask(host, {"cmd": "status"}, timeout_s=5).get("supervisor_sha256") == digest:
                return ""
        time.sleep(0.05)
    return str(answer.get("error", "out of time"))
