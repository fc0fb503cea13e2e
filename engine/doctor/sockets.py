"""The TCP sockets of this network namespace, counted by what they are to an engine."""

from __future__ import annotations

import ipaddress
import socket
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engine.doctor.reader import Reader

ESTABLISHED: Final = 1
TIME_WAIT: Final = 6
LISTEN: Final = 10
_MAPPED: Final = "0000000000000000FFFF0000"  #: an IPv4 address in the table of IPv6
_ANY: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, not listened on

Address = tuple[str, int]  #: IP and port


class Socket(NamedTuple):
    """One line of ``/proc/net/tcp``; addresses as the kernel writes them."""

    local: str
    remote: str
    state: int
    inode: int


def sockets(reader: Reader) -> Iterator[Socket]:
    """Yield every TCP socket of the network namespace."""
    for name in ("tcp", "tcp6"):
        for line in (reader.text(f"proc/net/{name}") or "").splitlines()[1:]:
            words = line.split()
            yield Socket(words[1], words[2], int(words[3], 16), int(words[9]))


def address_of(text: str) -> Address:
    """Return what ``0100007F:23DD`` stands for; an IPv4 address in IPv6 is one of IPv4."""
    host, _, port = text.partition(":")
    host = host.removeprefix(_MAPPED)
    words = [bytes.fromhex(host[place : place + 8])[::-1] for place in range(0, len(host), 8)]
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    return socket.inet_ntop(family, b"".join(words)), int(port, 16)


def is_same(listening: Address, wanted: Address) -> bool:
    """Tell whether a socket that listens takes connections to an address, or to all addresses of its port."""
    if listening[1] != wanted[1]:
        return False
    if listening[0] in _ANY or wanted[0] in _ANY:
        return True
    try:
        return ipaddress.ip_address(listening[0]) == ipaddress.ip_address(wanted[0])
    except ValueError:  # a name
        return True


class Tally(NamedTuple):
    """All sockets, counted."""

    inodes: set[int]  #: of those that listen on the engine's port, and on those of its doors
    by_destination: Counter[Address]  #: those with a local port of the range, by where they lead
    open_count: int  #: connections of clients to the engine's port
    closed_count: int  #: of those, the ones in TIME_WAIT: closed within the last minute
    peers: Counter[str]  #: address → how many of both


def tally(
    found: Iterator[Socket], *, listen: Address, ports: tuple[int, int], doors: Sequence[Address] = ()
) -> Tally:
    """Count sockets.

    Args:
        found: all of them.
        listen: the engine's address.
        doors: addresses of its doors, whose clients seldom keep a connection.
        ports: first and last of the ephemeral ports.
    """
    counts = Tally(set(), Counter(), 0, 0, Counter())
    inodes, by_destination, peers = counts.inodes, counts.by_destination, counts.peers
    pairs: Counter[tuple[str, str, int]] = Counter()
    for one in found:
        if one.state == LISTEN:
            if any(is_same(address_of(one.local), ours) for ours in (listen, *doors)):
                inodes.add(one.inode)
        else:
            pairs[one.local, one.remote, one.state] += 1
    open_count = closed_count = 0
    for (local, remote, state), count in pairs.items():
        port = int(local.rpartition(":")[2], 16)
        to_port = int(remote.rpartition(":")[2], 16)
        # Of a connection inside this machine both ends are listed; who closed first has that in TIME_WAIT.
        is_client_here = to_port == listen[1] and local.partition(":")[0] == remote.partition(":")[0]
        if port == listen[1] or (is_client_here and state == TIME_WAIT):
            if state == TIME_WAIT:
                closed_count += count
            elif state == ESTABLISHED:
                open_count += count
            peers[address_of(remote if port == listen[1] else local)[0]] += count
        if port != listen[1] and to_port and ports[0] <= port <= ports[1]:
            by_destination[address_of(remote)] += count
    return counts._replace(open_count=open_count, closed_count=closed_count)
