"""Who runs the engine on this host: systemd's unit, or we by ourselves."""

from __future__ import annotations

from pathlib import Path

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from .layout import Host

UNIT = "purgeline.service"
START_WAIT_S = 20.0
STOP_WAIT_S = 60.0


def uses_systemd(host: Host, service: str | None) -> bool:
    """Tell whether systemd runs the engine here.

    Args:
        host: the installation.
        service: ``systemd``, ``direct``, or ``auto`` as is None: whether the unit names this installation.
    """
    service = service or "auto"
    unit = Path("/etc/systemd/system") / UNIT
    if service == "systemd":
        return True
    is_installed = Path("/run/systemd/system").is_dir() and unit.is_file()
    return service == "auto" and is_installed and str(host.root) in unit.read_text(errors="replace")
