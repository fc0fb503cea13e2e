"""Who runs the engine on this host: systemd's unit, or we by ourselves."""

from __future__ import annotations

import shlex
from pathlib import Path

from .answers import Refused

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from .layout import Host

UNITS = Path("/etc/systemd/system")
UNIT = "purgeline.service"
START_WAIT_S = 60.0  # as long as the supervisor waits by itself (`--start-timeout`)
STOP_WAIT_S = 60.0


def uses_systemd(host: Host, service: str | None) -> bool:
    """Tell whether systemd runs the engine here.

    Args:
        host: the installation.
        service: ``systemd``, ``direct``, or ``auto`` as is None: whether the unit names this installation.

    Raises:
        Refused: ``systemd``, and the unit is that of another installation.
    """
    service = service or "auto"
    if service == "direct":
        return False
    unit = UNITS / UNIT
    root = root_of(unit.read_text(errors="replace")) if unit.is_file() else ""
    is_ours = bool(root) and Path(root) == host.root
    if service == "systemd":
        if root and not is_ours:
            raise Refused("service", f"{UNIT} runs the installation in {root}, not {host.root}")
        return True
    return is_ours and Path("/run/systemd/system").is_dir()


def unit_workers(host: Host) -> int:
    """Return how many workers systemd's unit starts here; 0 where it does not run this installation."""
    if not uses_systemd(host, None):
        return 0
    count = option_of((UNITS / UNIT).read_text(errors="replace"), "--workers")
    return int(count) if count.isdecimal() else 0


def root_of(unit: str) -> str:
    """Return the root that a unit's ``ExecStart=`` names; empty when the unit names none."""
    return option_of(unit, "--root")


def option_of(unit: str, option: str) -> str:
    """Return the value of an option of a unit's ``ExecStart=``; empty when that has none."""
    found = ""
    for line in unit.replace("\\\n", " ").splitlines():
        key, _, command = line.partition("=")
        if key.strip() != "ExecStart":
            continue
        try:
            words = shlex.split(command)
        except ValueError:  # a quote without an end: systemd refuses the line, too
            continue
        for word, following in zip(words, [*words[1:], ""]):
            name, mark, value = word.partition("=")
            if name == option:
                found = value if mark else following
    return found
