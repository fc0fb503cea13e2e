"""Canaries: objects of the engine's own that caches fetch from it, and what they hold.

The origin of canaries keeps nothing. A request carries, in the header `HEADER`, the value that it is answered
with: ``<nonce>.<mac>``. The mac is made with a key that the engines of one store share, so any of them
answers the canaries of any other, and nobody else can make one say anything. A cache that has the object
answers with the value of the request that filled it; so a visit with a new value tells whether it still has
the old one.
"""

from __future__ import annotations

import hmac
import re
import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.errors import WireError
from engine.nodes.exchange import exchange
from engine.nodes.findings import OK

if TYPE_CHECKING:
    from engine.config.tables import CanaryConfig
    from engine.nodes.address import Address

HEADER: Final = "Purgeline-Canary"
SURROGATE_KEY: Final = "purgeline-canary"  #: of every canary
KEY_BYTES: Final = 32
MAX_AGE_S: Final = 300
"""So long a canary is fresh: longer than a round takes, so that its end is not taken for a purge."""
SERVER_ERROR: Final = 500
_MAC_DIGITS: Final = 32
_VALUE: Final = re.compile(r"[0-9a-f]{32}\.[0-9a-f]{32}")


class Canary:
    """Makes and checks canaries; the key is there once the store is open.

    Args:
        config: where they are.
    """

    def __init__(self, config: CanaryConfig) -> None:
        self.host = config.host
        self.path = config.path
        self.key = b""

    def __repr__(self) -> str:
        return f"<Canary at {self.host}{self.path}>"

    def url(self, name: str, host: str = "") -> str:
        """Return the URL of a canary, in stored form; *host* instead of the configured one."""
        return f"http://{host or self.host}{self.path}{name}"

    def mint(self) -> str:
        """Return a value that there has not been."""
        nonce = secrets.token_hex(16)
        return f"{nonce}.{self._mac(nonce)}"

    def is_own(self, value: str) -> bool:
        """Tell whether an engine of this store made a value."""
        if not self.key or not _VALUE.fullmatch(value):
            return False
        nonce, _, mac = value.partition(".")
        return hmac.compare_digest(mac, self._mac(nonce))

    def _mac(self, nonce: str) -> str:
        return hmac.digest(self.key, nonce.encode(), "sha256").hex()[:_MAC_DIGITS]


class Seen(NamedTuple):
    """What a visitor of a canary got."""

    value: str  #: of the canary; empty: the answer is none
    why: str  #: there is none, in words; else empty
    is_down: bool = False  #: because the node gave no answer, or one of 5xx


async def visit(address: Address, canary: Canary, url: str, value: str, *, timeout_s: float) -> Seen:
    """Ask for a canary as a visitor does; *value* is what it holds if the origin is asked."""
    _, _, host, path = url.split("/", 3)
    request = (
        f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: purgeline-canary\r\nAccept: */*\r\n"
        f"{HEADER}: {value}\r\nConnection: close\r\n\r\n"
    )
    try:
        answer = await exchange(address, request, timeout_s=timeout_s)
    except TimeoutError:
        return Seen("", f"gave no answer within {timeout_s:g} s", is_down=True)
    except (OSError, ValueError, WireError) as exc:
        return Seen("", f"cannot be reached: {exc}", is_down=True)
    found = _VALUE.search(answer.text.partition(b"\r\n\r\n")[2].decode("latin-1"))
    if answer.status == OK and found is not None and canary.is_own(found[0]):
        return Seen(found[0], "")
    said = f"answered {answer.status}" if answer.status != OK else "answered 200 with something else"
    return Seen("", f"{said} to a canary", is_down=answer.status >= SERVER_ERROR)
