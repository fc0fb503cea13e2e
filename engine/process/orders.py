"""What a supervisor tells a worker at its start, in the environment."""

from __future__ import annotations

import os
from typing import Final

import msgspec

from engine.errors import ConfigError

ENVIRONMENT: Final = "PURGELINE_WORKER"
PROTOCOL: Final = 1


class Orders(msgspec.Struct, frozen=True):
    """A worker's orders. Fields are only added: versions next to each other understand each other."""

    listen_fd: int
    control_fd: int
    socket: str  #: path of the worker's own Unix socket
    protocol: int = PROTOCOL
    slot: int = 0
    count: int = 1
    generation: int = 1
    has_predecessor: bool = False
    door_fds: dict[str, int] = {}  #: sockets of doors, by their names


def read_orders(environ: dict[str, str] | None = None) -> Orders:
    """Return the orders of this process.

    Raises:
        ConfigError: there are none; a worker is not started by hand.
    """
    text = (os.environ if environ is None else environ).get(ENVIRONMENT)
    if text is None:
        raise ConfigError(f"{ENVIRONMENT} is not set: a supervisor starts workers; use `purgeline serve`")
    try:
        return msgspec.json.decode(text, type=Orders)
    except msgspec.DecodeError as exc:
        raise ConfigError(f"{ENVIRONMENT}: {exc}") from exc
