"""Who asks: the token of a request, and the address that it came from."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.intake.auth import Token  # noqa: TC001 - a compiled NamedTuple has it resolved at import
from engine.tasks.records import By

if TYPE_CHECKING:
    from collections.abc import Sequence

HTTP: Final = "http"  #: the door that the engine's port is
_HOPS_MAX: Final = 32  #: of one request that are looked at
_KNOWN_MAX: Final = 4096  #: clients that are remembered
_MAPPED: Final = "::ffff:"  #: and an IPv4 address
_PORTLESS: Final = 1  #: colons in an IPv4 address with a port


class Again(NamedTuple):
    """What a task sends once more."""

    retries: str = ""  #: id of the task of which it sends what failed
    rewind: str = ""  #: the rewind that it is a part of


class Client(NamedTuple):
    """One client, as the intake knows it."""

    token: Token
    by: By
    again: Again | None = None  #: of a task that the engine hands in for it
    traceparent: str = ""  #: of its request


class Addresses:
    """Tells the address of a client from that of the proxy in front of the engine.

    ``X-Forwarded-For`` counts only where a trusted proxy has written it: each adds the address that asked it
    at the end, and what stands before the first one that is not trusted, anybody may have sent.

    Args:
        trusted: addresses and networks of proxies; none: the peer is the client.
    """

    def __init__(self, trusted: Sequence[str] = ()) -> None:
        self._trusted = [ipaddress.ip_network(text) for text in trusted]
        self._known: dict[tuple[str, str, str], By] = {}

    def by(self, token: str, address: str, door: str) -> By:
        """Return who asks: the same object for the same client, whatever its connection.

        The tasks of one commit are told apart by it, see `engine.tasks.settled.columns_of`.
        """
        key = (token, address, door)
        by = self._known.get(key)
        if by is None:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            by = self._known[key] = By(*key)
        return by

    def of(self, peer: str, forwarded: str) -> str:
        """Return the address of a client.

        Args:
            peer: address of the connection; empty for one without, such as a Unix socket.
            forwarded: value of ``X-Forwarded-For``; empty without one.
        """
        peer = _unmapped(peer)
        if not self._trusted or not forwarded:
            return peer
        address = peer
        hops = forwarded.split(",")
        for hop in reversed(hops[-_HOPS_MAX:]):
            if not self._is_trusted(address):
                break
            before = _address_of(hop.strip())
            if not before:
                break
            address = before
        return address

    def _is_trusted(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._trusted)


class Caller:
    """Who is at the other end of one connection.

    Args:
        addresses: of the engine.
        peername: of the connection, as its transport tells it: address and port; a text of a Unix socket.
        door: what it has come to.
    """

    __slots__ = ("_addresses", "_client", "_door", "_forwarded", "_peer")

    def __init__(self, addresses: Addresses, peername: object, door: str = HTTP) -> None:
        self._addresses = addresses
        self._door = door
        self._peer = str(peername[0]) if isinstance(peername, tuple) and peername else ""
        self._client: Client | None = None  # of the last request
        self._forwarded = b""

    def client(self, token: Token, forwarded: bytes) -> Client:
        """Return the client of a request: nearly always that of the one before."""
        client = self._client
        if client is None or client.token is not token or forwarded != self._forwarded:
            client = self._client = Client(token, self.by(token.name, forwarded))
            self._forwarded = forwarded
        return client

    def by(self, token: str, forwarded: bytes) -> By:
        """Return who asks.

        Args:
            token: its name; empty: there is none.
            forwarded: value of ``X-Forwarded-For``.
        """
        addresses = self._addresses
        return addresses.by(token, addresses.of(self._peer, forwarded.decode("latin-1")), self._door)


def _unmapped(address: str) -> str:
    """Return an address of IPv4 as such, where a socket of both kinds shows it as one of IPv6."""
    return address.removeprefix(_MAPPED) if address.startswith(_MAPPED) and "." in address else address


def _address_of(text: str) -> str:
    """Return the address of one hop without its port; empty: it is none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == _PORTLESS:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""
