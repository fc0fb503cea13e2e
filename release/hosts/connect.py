"""Connects to a host by SSH, with the host's key verified, and says in a sentence why when it cannot.

Fabric trusts unknown hosts by default; here only keys from the known-hosts files count, for jump hosts too.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import logging
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import paramiko
from fabric import Config, Connection

from release.errors import HostError

if TYPE_CHECKING:
    from release.inventory import Host
    from release.settings import Settings

USER_KNOWN_HOSTS: Final = "~/.ssh/known_hosts"
SYSTEM_KNOWN_HOSTS: Final = Path("/etc/ssh/ssh_known_hosts")

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # else its threads write tracebacks on stderr


class _UnknownKeyError(paramiko.SSHException):  # type: ignore[misc] # paramiko has no types
    """The host showed a key that no known-hosts file has."""

    def __init__(self, key: paramiko.PKey) -> None:
        digest = base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")
        super().__init__(f"{key.get_name()} SHA256:{digest}")


class _RefusePolicy(paramiko.RejectPolicy):  # type: ignore[misc] # as above
    """Refuses as `RejectPolicy` does, and keeps the key for the message."""

    def missing_host_key(self, _client: paramiko.SSHClient, _hostname: str, key: paramiko.PKey) -> None:
        raise _UnknownKeyError(key)


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
            _trust(hop, settings)
        connection.open()
    except Exception as exc:
        raise _explain(host, settings, exc) from exc
    _notice_loss(connection.transport, timeout_s)
    return connection


def place_of(host: Host) -> str:
    """Return address and port."""
    return f"{host.address or host.name}:{host.port}"


def _trust(connection: Connection, settings: Settings) -> None:
    client = connection.client
    client.set_missing_host_key_policy(_RefusePolicy())
    own = Path(settings.known_hosts or USER_KNOWN_HOSTS).expanduser()
    for path in (own,) if settings.known_hosts else (own, SYSTEM_KNOWN_HOSTS):
        if path.exists():
            client.load_system_host_keys(str(path))


def _explain(host: Host, settings: Settings, exc: Exception) -> HostError:
    """Say why there is no connection, and what to do."""
    known, address, place = (
        settings.known_hosts or USER_KNOWN_HOSTS,
        host.address or host.name,
        place_of(host),
    )
    name = address if host.port == paramiko.config.SSH_PORT else f"[{address}]:{host.port}"
    add = f"ssh-keyscan -p {host.port} {address} >> {known}"
    kind = "unreachable"
    match exc:
        case _UnknownKeyError():
            kind = "host-key"
            why = f"its key ({exc}) is not in {known}; compare it on the host, then add it: {add}"
        case paramiko.BadHostKeyException():
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
