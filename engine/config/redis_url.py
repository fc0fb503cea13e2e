"""``store.url`` for Redis: which servers, how they are arranged, and who we are there.

::

    redis://[user:password@]host[:6379][/database]             rediss:// with TLS
    redis+sentinel://[user:password@]h1[:26379],h2,…/service[/database]
    redis+cluster://[user:password@]h1[:6379],h2,…

No error quotes what may be a part of a password, and whoever shows a URL shows `without_password`.
"""

from __future__ import annotations

import re
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

import msgspec

Kind = Literal["single", "sentinel", "cluster"]
_KINDS: Final[dict[str, tuple[Kind, int]]] = {
    "redis": ("single", 6379),
    "rediss": ("single", 6379),
    "redis+sentinel": ("sentinel", 26379),
    "redis+cluster": ("cluster", 6379),
}
SCHEMES: Final = tuple(_KINDS)
_QUERY: Final = re.compile(r"([?#]).*", re.DOTALL)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_PORT_MAX: Final = 65535
_DATABASE_MAX: Final = 1_000_000


def without_password(url: str) -> str:
    """Return a URL, right or wrong, with what may be a password hidden.

    That is all before its last ``@``, what stands for a port and is no number, and its query and fragment:
    Redis libraries take ``?password=`` there.
    """
    scheme, colon, rest = url.partition(":")
    _, sign, place = rest.rpartition("@")
    if sign:
        start = f"{scheme}://***@"
    else:
        place = rest.lstrip("/")
        start = f"{scheme}{colon}{rest[: len(rest) - len(place)]}"
    servers, slash, path = _QUERY.sub(r"\1***", place).partition("/")
    return f"{start}{','.join(map(_without_odd_port, servers.split(',')))}{slash}{path}"


def _without_odd_port(server: str) -> str:
    if _HOST.fullmatch(server) or ":" not in server:
        return server
    return f"{server.partition(':')[0]}:***"


class RedisUrl(msgspec.Struct, frozen=True):
    """A ``store.url`` taken apart."""

    kind: Kind
    servers: list[tuple[str, int]]  #: to begin with: the server, the sentinels, or some of the cluster
    database: int = 0
    service: str = ""  #: the name that the sentinels know
    username: str | None = None
    password: str | None = None
    has_tls: bool = False

    def __str__(self) -> str:
        """Return it without the password."""
        servers = ",".join(f"{host}:{port}" for host, port in self.servers)
        return f"Redis {self.service or self.kind} at {servers}"

    def __repr__(self) -> str:
        return f"<RedisUrl {self}>"


def parse_redis_url(text: str) -> RedisUrl:
    """Take *text* apart.

    Raises:
        ValueError: it is none of the forms above; says what is wrong.
    """
    scheme, separator, _ = text.partition("://")
    if not separator or scheme not in _KINDS:
        raise ValueError(f"takes {', '.join(f'{name}://' for name in SCHEMES)}")
    kind, port = _KINDS[scheme]
    try:
        url = urlsplit(text)
    except ValueError:  # its text quotes the URL
        raise ValueError("the address in [ ] is none") from None
    user, _, places = url.netloc.rpartition("@")
    if "@" in f"{url.path}{url.query}{url.fragment}":
        raise ValueError("a password's / ? # are written %2F %3F %23")
    if url.query or url.fragment:
        raise ValueError("takes no query and no fragment")
    servers = [_server(place, port, number) for number, place in enumerate(places.split(","), 1)]
    if kind == "single" and len(servers) != 1:
        raise ValueError("one server; redis+sentinel:// and redis+cluster:// take several")
    parts = [part for part in url.path.split("/") if part]
    service = ""
    if kind == "sentinel":
        if not parts:
            raise ValueError("the service that the sentinels watch is missing: …:26379/mymaster")
        service = parts.pop(0)
    if len(parts) > 1 or (parts and (not parts[0].isdecimal() or int(parts[0]) > _DATABASE_MAX)):
        raise ValueError("what follows the last / is not the number of a database")
    database = int(parts[0]) if parts else 0
    if kind == "cluster" and database:
        raise ValueError("a cluster has database 0 only")
    name, colon, password = user.partition(":")
    if not colon:
        name, password = "", name
    return RedisUrl(
        kind,
        servers,
        database,
        service,
        unquote(name) or None,
        unquote(password) or None,
        scheme == "rediss",
    )


def _server(text: str, port: int, number: int) -> tuple[str, int]:
    match = _HOST.fullmatch(text)
    if match is None or int(match[2] or port) not in range(1, _PORT_MAX + 1):
        raise ValueError(f"server {number} is not HOST[:PORT]")
    return match[1].strip("[]"), int(match[2] or port)
