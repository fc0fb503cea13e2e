"""Who may purge through a door: by address, by a secret in a field, or both where both are set."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from typing import TYPE_CHECKING

from engine.errors import RequestError

if TYPE_CHECKING:
    from engine.config.tables import DoorConfig
    from engine.doors.heads import Head


class Access:
    """The rules of one door.

    Args:
        config: its ``allow``, ``secret_header`` and ``secret_sha256``.
    """

    def __init__(self, config: DoorConfig) -> None:
        self._networks = [ipaddress.ip_network(text) for text in config.allow]
        self._field = config.secret_header.lower()
        self._digest = config.secret_sha256.encode()
        self._known: dict[str, bool] = {}

    def check(self, head: Head, address: str) -> None:
        """Refuse who may not purge.

        Args:
            head: of the request.
            address: of the client.

        Raises:
            RequestError: 403; it says nothing about what a secret has to be.
        """
        if self._networks and not self._is_allowed(address):
            raise RequestError(403, f"this door does not take purges from {address or 'there'} (allow)")
        if self._field:
            value = head.get(self._field).encode("latin-1")
            if not hmac.compare_digest(hashlib.sha256(value).hexdigest().encode(), self._digest):
                raise RequestError(403, f"{self._field}: takes the secret of this door")

    def _is_allowed(self, address: str) -> bool:
        allowed = self._known.get(address)
        if allowed is None:
            if len(self._known) >= 1024:  # noqa: PLR2004 - clients behind a proxy may name many
                self._known.clear()
            allowed = self._known[address] = self._find(address)
        return allowed

    def _find(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        return any(parsed in network for network in self._networks)
