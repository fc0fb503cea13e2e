"""Which addresses a door takes purges from."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_KNOWN_MAX: Final = 1024  #: clients behind a proxy may name many


class AllowList:
    """The addresses and networks of one door.

    Args:
        networks: its ``allow``; none: every address.
    """

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ipaddress.ip_network(text) for text in networks]
        self._known: dict[str, bool] = {}

    def has(self, address: str) -> bool:
        """Tell whether *address* may purge; text that is no address may where all may."""
        if not self._networks:
            return True
        allowed = self._known.get(address)
        if allowed is None:
            if len(self._known) >= _KNOWN_MAX:
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
