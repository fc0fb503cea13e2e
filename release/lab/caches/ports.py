"""Loopback ports for servers that are killed and started again.

They come from below the kernel's range for outgoing connections. So nothing else on the machine gets the
port of a killed server by chance.
"""

import contextlib
import os
import random
import socket
import threading

from release.lab.caches.errors import CacheError

PORTS = range(20_000, 32_000)  #: below 32768, where Linux takes ports for outgoing connections from

_reservations: dict[int, int] = {}  # port → descriptor
_reserving = threading.Lock()


def free_port() -> int:
    """Return a loopback port where nobody listens, never twice the same, to other processes neither.

    Raises:
        CacheError: none found.
    """
    chooser = random.SystemRandom()
    with _reserving:
        for _ in range(1000):
            port = chooser.choice(PORTS)
            if port not in _reservations and _reserve(port):
                if is_free(port):
                    return port
                os.close(_reservations.pop(port))
    raise CacheError("free_port", f"no free port from {PORTS.start} to {PORTS.stop}")


def is_free(port: int) -> bool:
    """Tell whether a server could listen on a loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def accepts(port: int) -> bool:
    """Tell whether a server accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _reserve(port: int) -> bool:
    """Keep a port from other callers of `free_port`, in any process, until this process ends."""
    with contextlib.ExitStack() as stack:
        mark = stack.enter_context(socket.socket(socket.AF_UNIX))
        try:
            mark.bind(f"\0purgeline-port-{port}")
        except OSError:
            return False
        _reservations[port] = mark.detach()
    return True
