"""Who may purge through a door: by address, by a secret in a field, or both where both are set."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from engine.doors.allow import AllowList
from engine.errors import RequestError

if TYPE_CHECKING:
    from engine.config.doors import PurgeDoorConfig
    from engine.doors.purge.heads import Head


class Access:
    """The rules of one door.

    Args:
        config: its ``allow``, ``secret_header`` and ``secret_sha256``.
    """

    def __init__(self, config: PurgeDoorConfig) -> None:
        self._allow = AllowList(config.allow)
        self._field = config.secret_header.lower()
        self._digest = config.secret_sha256.encode()

    def check(self, head: Head, address: str) -> None:
        """Refuse who may not purge.

        Args:
            head: of the request.
            address: of the client.

        Raises:
            RequestError: 403; it says nothing about what a secret has to be.
        """
        if not self._allow.has(address):
            raise RequestError(403, f"this door does not take purges from {address or 'there'} (allow)")
        if self._field:
            value = head.get(self._field).encode("latin-1")
            if not hmac.compare_digest(hashlib.sha256(value).hexdigest().encode(), self._digest):
                raise RequestError(403, f"{self._field}: takes the secret of this door")
