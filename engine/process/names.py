"""What an engine and its workers are called where several share a Redis."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.config.tables import Config


def engine_name(config: Config) -> str:
    """Return the name of an engine: its own, or host name and port."""
    return config.engine.name or f"{platform.node()}:{config.listen_address()[1]}"


def consumer_name(config: Config, slot: int) -> str:
    """Return a name for a worker that no other has, nor the one before it in its slot."""
    return f"{engine_name(config)}/{slot}.{os.getpid():x}{os.urandom(3).hex()}"
