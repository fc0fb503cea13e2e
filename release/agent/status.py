"""The operation ``status``: what runs, what should run, and whether it is well."""

from __future__ import annotations

import http.client
import json
import socket

import tomllib

from .control import running

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from typing import Any

    from .layout import Host

HTTP_OK = 200
TIMEOUT_S = 5.0


def status(host: Host, _request: dict[str, Any]) -> dict[str, Any]:
    """Return the supervisor's status, the releases, and what the engine answers to a client."""
    current, good = host.linked("current"), host.good()
    releases = {
        "current": current,
        "previous": host.linked("previous"),
        "releases": good,
        "unverified": [version for version in host.unpacked() if version not in good],
        "node_count": node_count(host),
    }
    supervisor = running(host, 10)
    if not supervisor:
        stopped = {"version": "", "state": "stopped", "workers": [], "ready": False, "served_version": ""}
        return {**stopped, **releases, "drift": bool(current)}
    address = str(supervisor.get("listen", ""))
    if supervisor.get("state") == "starting":  # its clients wait, as we would
        ready = shown = (0, b"the engine is starting")
    else:
        ready, shown = get(address, "/readyz"), get(address, "/version")
    try:
        says = json.loads(shown[1]).get("version", "")
    except (ValueError, AttributeError):
        says = ""
    is_ready = ready[0] == HTTP_OK
    return {
        **supervisor,
        **releases,
        "ready": is_ready,
        "ready_detail": "" if is_ready else ready[1].decode(errors="replace")[:300],
        "served_version": says,
        "drift": supervisor.get("version") != current,
    }


class UnixConnection(http.client.HTTPConnection):
    """A connection to a Unix socket: a path, or ``@NAME``."""

    def __init__(self, address: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._address = address

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(f"\0{self._address[1:]}" if self._address.startswith("@") else self._address)


def connection_to(address: str) -> http.client.HTTPConnection:
    """Return a connection, not made yet, to the address that a supervisor says it listens on.

    Raises:
        ValueError: it is none.
    """
    if address.startswith(("/", "@")):
        return UnixConnection(address)
    name, _, port = address.rpartition(":")
    name = {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "::1"}.get(name, name.strip("[]"))  # noqa: S104
    return http.client.HTTPConnection(name, int(port), timeout=TIMEOUT_S)


def node_count(host: Host) -> int | None:
    """Return how many caches the configuration has; None where it cannot be read."""
    try:
        return len(tomllib.loads(host.config.read_text(encoding="utf-8")).get("node", []))
    except (OSError, ValueError, TypeError):
        return None


def get(address: str, path: str) -> tuple[int, bytes]:
    """GET from the engine as a client would; return status and body, 0 and why when there is no answer."""
    try:
        client = connection_to(address)
    except ValueError:
        return 0, f"it listens on {address!r}, which is no address".encode()
    try:
        client.request("GET", path)
        answer = client.getresponse()
        return answer.status, answer.read(65536)
    except (OSError, http.client.HTTPException) as exc:
        return 0, repr(exc).encode()
    finally:
        client.close()
