"""Connects to a host by SSH, with the host's key verified, and says in a sentence why when it cannot.

Fabric trusts unknown hosts by default; here only keys from the known-hosts files count, for jump hosts too.
"""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paramiko
from fabric import Config, Connection

from release.errors import HostError
from release.known_hosts import USER_FILE, HostKeyError, trust

if TYPE_CHECKING:
    from release.inventory import Host
    from release.settings import Settings


def connect(host: Host, settings: Settings) -> Connection:
    """Return an open connection.

    Raises:
        HostError: there is none; kind ``unreachable``, ``host-key`` or ``auth``.
    """
    timeout_s = settings.connect_timeout_s
    kwargs: dict[str, Any] = {f"{part}_timeout": timeout_s for part in ("banner", "auth", "channel")}
    if settings.ssh_key_file:
        kwargs["key_filename"] = str(Path(settings.ssh_key_file).expanduser())
    try:
        connection = Connection(
            host.address or host.name,
            user=host.user or None,
            port=host.port if host.port != paramiko.config.SSH_PORT else None,
            config=Config(),
            connect_timeout=max(1, round(timeout_s)),
            connect_kwargs=kwargs,
        )
        for hop in _hops(connection):
            trust(hop, settings.known_hosts)
        connection.open()
    except Exception as exc:
        raise _explain(host, settings, exc) from exc
    _notice_loss(connection.transport, timeout_s)
    return connection


def place_of(host: Host) -> str:
    """Return address and port."""
    return f"{host.address or host.name}:{host.port}"


def _explain(host: Host, settings: Settings, exc: Exception) -> HostError:
    """Say why there is no connection, and what to do."""
    known, address, place = (
        settings.known_hosts or USER_FILE,
        host.address or host.name,
        place_of(host),
    )
    name = address if host.port == paramiko.config.SSH_PORT else f"[{address}]:{host.port}"
    add = f"ssh-keyscan -p {host.port} {address} >> {known}"
    kind = "unreachable"
    match exc:
        case HostKeyError(kind="refused"):
            kind = "host-key"
            why = f"{exc}, by {known}; do not connect before you know why"
        case HostKeyError(kind="unknown"):
            kind = "host-key"
            why = f"its key ({exc}) is not in {known}; compare it on the host, then add it: {add}"
        case HostKeyError():
            kind = "host-key"
            why = (
                f"its key is not the one in {known}: installed anew, or somebody is in between; "
                f"find out, then: ssh-keygen -R '{name}' -f {known} && {add}"
            )
        case paramiko.AuthenticationException():
            kind = "auth"
            user = host.user or "the caller"
            why = f"does not let {user} in ({exc}); add a public key there, or load the private one"
        case TimeoutError():
            why = f"no answer from {place} within {settings.connect_timeout_s:g} s"
        case socket.gaierror():
            why = f"the address {address!r} is not known: {exc.strerror}"
        case paramiko.ssh_exception.NoValidConnectionsError() | ConnectionRefusedError():
            first = next(iter(getattr(exc, "errors", {None: exc}).values()))
            is_refused = getattr(first, "errno", None) == errno.ECONNREFUSED
            why = f"{place} refuses the connection" if is_refused else f"{place}: {first}"
        case _:
            why = f"cannot connect to {place}: {str(exc) or type(exc).__name__}"
    return HostError(host.name, why, kind=kind)


def _hops(connection: Connection) -> list[Connection]:
    """Return the connection and the jump hosts before it."""
    hops = []
    hop: Any = connection
    while isinstance(hop, Connection):
        hops.append(hop)
        hop = hop.gateway
    return hops


def _notice_loss(transport: paramiko.Transport, timeout_s: float) -> None:
    """Let the kernel give the connection up when the host does not acknowledge for *timeout_s*."""
    transport.set_keepalive(max(1, round(timeout_s / 2)))
    if isinstance(transport.sock, socket.socket):  # through a jump host it is a channel
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(timeout_s * 1000))
