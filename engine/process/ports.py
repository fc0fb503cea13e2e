"""What all ports of an engine have alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from engine import _version

if TYPE_CHECKING:
    from engine.config.tables import EngineConfig
    from engine.intake.client import Addresses

SERVER: Final = f"purgeline/{_version.__version__}"


def limits_of(settings: EngineConfig, addresses: Addresses) -> dict[str, Any]:
    """Return the limits that every port has, each for itself."""
    return {
        "addresses": addresses,
        "server": SERVER,
        "connections_max": settings.connections_max,
        "header_timeout_s": settings.header_timeout_s,
        "body_timeout_s": settings.body_timeout_s,
        "idle_timeout_s": settings.idle_timeout_s,
    }
