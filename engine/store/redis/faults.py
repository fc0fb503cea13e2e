"""What is wrong where a Redis takes no connection, and what mends it, in an operator's words.

Most servers say it (`told`). Not where one side speaks TLS and the other does not; and a server in protected
mode says it, but hangs up before redis-py has sent its greeting, which then reads nothing. `seen` looks at
such a server once more, and waits for what it says before it sends anything.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from engine.config.redis_url import RedisUrl

_PROTECTED: Final = "DENIED Redis is running in protected mode"
_IS_PROTECTED: Final = (
    "it is in protected mode, in which only its own machine may connect: give it a password (requirepass "
    "there, redis://:PASSWORD@… here), or set protected-mode no where nobody else reaches it"
)
_WANTS_TLS: Final = "it speaks TLS: use rediss://"
_WANTS_TLS_THERE: Final = "it speaks TLS, which the engine does with a single server only: rediss://"
_CERTIFICATE: Final = (
    "it asks clients for a certificate, and the engine has none for it: tls-auth-clients no there"
)
_WANTS_CERTIFICATE: Final = f"it ends the connection after the greeting of TLS; perhaps {_CERTIFICATE}"
_NO_TLS: Final = "it does not speak TLS: use redis://, or set tls-port there"
IS_CLUSTER: Final = "it is a server of a cluster: use redis+cluster://"
_HANGS_UP: Final = "it ends every connection at once, as a proxy or a firewall before it does"
_MUTE: Final = ("reset by peer", "broken pipe", "closed by server", "eof occurred")
_MUTE_TLS: Final = (*_MUTE, "timeout", "wrong_version_number")  #: when the engine begins with TLS
_FIRST_S: Final = 0.3  #: a server that refuses everybody says so at once
_LOOK_S: Final = 1.0
_TEXT_MAX: Final = 200
_NO_MASTER: Final = "No master found for"


def told(text: str, url: RedisUrl) -> str:
    """Return what a server, or the way to it, says, with what mends it where that is known."""
    if text.startswith(_NO_MASTER):
        return f"no Sentinel names a master {url.service!r}" + (
            " (not all of them answer)" if " - " in text else ""
        )
    lower = text.lower()
    who = f"the user {url.username}" if url.username else "the default user"
    for sign, said in (
        (_PROTECTED.lower(), _IS_PROTECTED),
        ("authentication required", "it asks for a password, and the URL has none: redis://:PASSWORD@…"),
        ("called without any password configured", f"it has no password for {who}, and the URL has one"),
        ("invalid username-password", f"it refuses the password of {who}, or the user is off"),
        ("db index is out of range", f"it has no database {url.database}: `databases` there says how many"),
        ("cluster mode is not enabled", "it is no cluster: use redis://"),
        ("select is not allowed in cluster mode", IS_CLUSTER),
        ("unknown command 'sentinel'", "it is no Sentinel; those listen on 26379 by default"),
        ("max number of clients", "it has as many connections as it takes: raise maxclients there"),
        ("certificate required", _CERTIFICATE),
        ("certificate_verify_failed", f"{_of_certificate(text)}; SSL_CERT_FILE names authorities to trust"),
        ("as reply type byte", f"what answers is no Redis ({text})"),
    ):
        if sign in lower:
            return said
    return text if len(text) <= _TEXT_MAX else f"{text[:_TEXT_MAX]}…"


def _of_certificate(text: str) -> str:
    """Return what is wrong with a certificate, without the marks of the library."""
    why = text.partition("certificate verify failed: ")[2].partition(" (_ssl")[0]
    return f"its certificate is not trusted here ({why or text})"


def says_nothing(exc: Exception, url: RedisUrl) -> bool:
    """Tell whether what a connection came to, before the server had answered, leaves open why."""
    text = str(exc).lower()
    return text.startswith(_NO_MASTER.lower()) or any(
        sign in text for sign in (_MUTE_TLS if url.has_tls else _MUTE)
    )


def seen(host: str, port: int, url: RedisUrl) -> str:
    """Return what a look at a server shows of why it takes no connection; empty: nothing more is known.

    It takes up to two seconds, and sends the server at most a PING and the greeting of TLS.

    Args:
        host: the server.
        port: as above.
        url: that the engine has.
    """
    first = _said(host, port, b"")
    if first is None:
        return ""  # it cannot be reached now
    if first.text:
        return told(first.text, url) if _PROTECTED in first.text else ""
    answer = _said(host, port, b"PING\r\n")
    if answer is None:
        return ""
    if answer.text[:1] in {"+", "-"}:
        return _NO_TLS if url.has_tls else ""
    if _speaks_tls(host, port):
        if url.has_tls:
            return _WANTS_CERTIFICATE
        return _WANTS_TLS if url.kind == "single" else _WANTS_TLS_THERE
    return _HANGS_UP if first.is_closed else ""


class _Said(NamedTuple):
    text: str
    is_closed: bool = False  #: by the server


def _said(host: str, port: int, sent: bytes) -> _Said | None:
    """Return what a server says, to nothing or to *sent*; None: there is no connection."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), _LOOK_S) as connection:
        try:
            connection.sendall(sent)
            connection.settimeout(_LOOK_S if sent else _FIRST_S)
            read = connection.recv(4096)
        except TimeoutError:
            return _Said("")
        except OSError:
            return _Said("", is_closed=True)
        return _Said(read.decode("utf-8", "replace"), is_closed=not read)
    return None


def _speaks_tls(host: str, port: int) -> bool:
    """Tell whether a server takes the greeting of TLS. Nothing is sent that would need a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        contextlib.suppress(OSError),
        socket.create_connection((host, port), _LOOK_S) as connection,
        context.wrap_socket(connection, server_hostname=host),
    ):
        return True
    return False
