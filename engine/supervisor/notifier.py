"""What systemd is told: readiness, reloads, the end, and that the watchdog need not bite."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time


class Notifier:
    """Tells systemd how the supervisor is, on the socket that ``NOTIFY_SOCKET`` names, if it names one."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        for_us = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = os.environ.get("WATCHDOG_USEC", "")
        self.watchdog_s = int(usec) / 1e6 if usec.isdecimal() and for_us else 0.0

    def send(self, *lines: str) -> None:
        """Send assignments such as ``READY=1``. Never blocks or fails."""
        if self._address:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.sendto("\n".join(lines).encode(), socket.MSG_DONTWAIT, self._address)

    def ready(self, what: str) -> None:
        """Tell that all is up; *what* serves."""
        self.send("READY=1", f"STATUS={what}")

    def reloading(self, what: str) -> None:
        """Tell that a reload to *what* has begun; `ready` ends it."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", f"STATUS=reload to {what}")

    def stopping(self) -> None:
        """Tell that the end has begun."""
        self.send("STOPPING=1", "STATUS=draining")

    def pat(self) -> None:
        """Keep the watchdog quiet from now on; the loop must be running."""
        if self.watchdog_s:
            self.send("WATCHDOG=1")
            asyncio.get_running_loop().call_later(self.watchdog_s / 2, self.pat)
