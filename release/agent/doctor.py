"""The operation ``doctor``: what the current release says of this host."""

from __future__ import annotations

import json

from .answers import Refused
from .command import run
from .environment import python_of

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from typing import Any

    from .layout import Host

SICK = 1  #: exit code of a doctor that found something


def doctor(host: Host, _request: dict[str, Any]) -> dict[str, Any]:
    """Have the current release look at this host; return its document.

    Raises:
        Refused: there is no release, it is of a time before it had a doctor, or its configuration is wrong.
    """
    version = host.linked("current")
    if not version:
        raise Refused("missing", "no release yet")
    python = python_of(host.release(version))
    command = [str(python), "-I", "-B", "-m", "engine", "doctor", "--config", str(host.config), "--json"]
    try:
        said = run(command, f"have {version} look at this host", host.shared, good=(0, SICK))
    except Refused as exc:
        if any("invalid choice" in line for line in exc.log):
            raise Refused("release", f"{version} has no doctor yet, a later release has") from exc
        raise
    try:
        document = json.loads(said)
    except ValueError:
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("checks"), list):
        raise Refused("release", f"{version} says nothing of this host that could be read")
    return document
