"""The operation ``reload``: the engine runs ``releases/V``, then ``current`` points there.

Exactly this operation swaps ``current`` and has the supervisor take a release up; see `switch`.
"""

from __future__ import annotations

import contextlib
import time

from . import verify
from .answers import Refused, explain, tell
from .command import run
from .control import running
from .environment import python_of
from .files import write_whole
from .history import append, note, served_here
from .requests import by
from .service import STOP_WAIT_S
from .start import start
from .status import status
from .switch import switch

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from .layout import Host


def reload(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Have the engine run a release; a host that served before does so afterwards, whatever fails.

    The answer's ``status`` is what `status` answers afterwards, ``stale_before`` see `stale_nodes`.
    """
    began = time.monotonic()
    version = request["version"]
    folder = host.release(version)
    before = host.linked("current")
    action = str(request.get("action") or "reload")
    entry = {"action": action, "version": version, "from": before, **by(request)}
    stale = stale_nodes(host)
    try:
        entry["sha256"] = same_bytes(host, request)
        verify.check(host, version, is_quick=True)
        check_config(host, folder, request)
        answer = switch(host, folder, request)
    except (Refused, OSError) as exc:
        refused = explain(exc) if isinstance(exc, OSError) else exc
        with contextlib.suppress(OSError):
            append(host, **entry, ok=False, error=str(refused), duration_s=time.monotonic() - began)
        bring_back(host, request, before)
        raise refused from exc
    took_s = time.monotonic() - began
    if not answer["unchanged"] or served_here(host)[-1:] != [version]:  # the call before was killed
        note(host, **entry, ok=True, duration_s=took_s)
    ended = {"from": before, "to": version, "version": version, "duration_s": took_s, **answer}
    ended["stale_before"] = stale
    with contextlib.suppress(Refused):  # else whoever wants to know asks for it
        ended["status"] = status(host, request)
    return ended


def stale_nodes(host: Host) -> list[str]:
    """Return the caches whose canary was stale already: no release of the engine made them so."""
    try:
        workers = running(host, 10).get("workers", ())
    except Refused:
        return []
    return sorted({name for worker in workers for name in worker.get("stale") or ()})


def same_bytes(host: Host, request: dict[str, Any]) -> str:
    """Return the SHA-256 of what a release was made of: that of the request, where the request has one.

    Raises:
        Refused: the release is not here, or was made of something else.
    """
    version, wanted = request["version"], request.get("sha256")
    sha256 = str(host.need_verified(version).get("sha256") or "")
    if wanted and sha256 != wanted:
        raise Refused("conflict", f"{version} is here with other bytes: SHA-256 {sha256}, not {wanted}")
    return sha256


def check_config(host: Host, folder: Path, request: dict[str, Any]) -> None:
    """See that the release can read the configuration; write a first one where an address is given."""
    if not host.config.exists():
        if not request.get("listen"):
            raise Refused(
                "config",
                f"{host.config} is missing; the task salt writes it, or give --listen for a first one",
            )
        text = f'# Written by the first deploy; yours to change.\n[engine]\nlisten = "{request["listen"]}"\n'
        write_whole(host.config, text.encode(), 0o640)
    command = [str(python_of(folder)), "-I", "-m", "engine", "check-config", str(host.config)]
    try:
        run(command, "check", host.shared)
    except Refused as exc:
        said = (exc.log or [str(exc)])[-1]
        raise Refused("config", f"{folder.name} cannot use the configuration: {said}", exc.log) from None


def bring_back(host: Host, request: dict[str, Any], before: str) -> None:
    """Start the release *before* again where a failed reload left a host that served without an engine."""
    if not before or host.linked("current") != before:
        return
    with contextlib.suppress(Refused):
        if not running(host):
            restart(host, request, before)


def restart(host: Host, request: dict[str, Any], before: str) -> None:
    """Start again what ran, and tell."""
    tell("restart", version=before, message=f"nothing runs any more; {before} is started again")
    try:
        start(host, {**request, "version": before, "timeout_s": STOP_WAIT_S})
    except (Refused, OSError) as exc:
        tell("down", version=before, message=f"{before} does not start again: {exc}")
