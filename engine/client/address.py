"""Where engines are, and what opens them: from arguments, the environment or a file."""

from __future__ import annotations

import os
import re

from engine.base.tuples import NamedTuple

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    from collections.abc import Sequence

URL_DEFAULT = "http://127.0.0.1:9181"
PORT_MAX = 65535
_PLAIN = re.compile(r"(https?)://([a-z0-9._-]+)(?::([0-9]{1,5}))?((?:/[A-Za-z0-9._~-]+)*)/*")


class Address(NamedTuple):
    """One engine's."""

    url: str
    is_tls: bool
    host: str
    port: int | None  #: None: the scheme's own
    prefix: str  #: of every path; empty, or with a slash in front


def address_of(url: str) -> Address:
    """Return the parts of ``http(s)://HOST[:PORT][/PREFIX]``.

    Raises:
        ValueError: it is none; the text says why.
    """
    plain = _PLAIN.fullmatch(url)
    if plain is None or int(plain[3] or 0) > PORT_MAX:
        return _parted(url)
    scheme, host, digits, prefix = plain.groups()
    return Address(url, scheme == "https", host, int(digits) if digits else None, prefix)


def _parted(url: str) -> Address:
    """Do as `address_of` for any URL: what reads it brings as much as an eighth of a short command."""
    from urllib.parse import urlsplit  # noqa: PLC0415 - as said

    parts = urlsplit(url)
    if "," in parts.netloc:
        raise ValueError(f"{url!r}: several engines are each an http(s)://HOST[:PORT], with commas between")
    port = parts.port  # raises ValueError when it is none
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{url!r} is not http(s)://HOST[:PORT]")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"{url!r}: scheme, host, port and path only; the token has its own option")
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise ValueError(f"{url!r} has characters that a URL cannot have")
    return Address(url, parts.scheme == "https", parts.hostname, port, parts.path.rstrip("/"))


def addresses_of(engines: str | Sequence[str] | None) -> list[Address]:
    """Return the addresses of engines, in their order.

    Args:
        engines: URLs, or text with URLs between commas; None or none: those of ``PURGELINE_URL``, else
            `URL_DEFAULT`.

    Raises:
        ValueError: one of them is no address; the text says why.
    """
    given = engines or os.environ.get("PURGELINE_URL") or URL_DEFAULT
    # Split at commas in front of a scheme: a prefix may have commas of its own.
    urls = re.split(r"\s*,\s*(?=https?://)", given.strip(" \t")) if isinstance(given, str) else list(given)
    return [address_of(url) for url in dict.fromkeys(urls)]


def token_of(token: str | None = None, *, file: str | os.PathLike[str] | None = None) -> str:
    """Return the bearer token: *token*, that in *file*, ``PURGELINE_TOKEN`` or ``PURGELINE_TOKEN_FILE``.

    Raises:
        ValueError: no header can carry it, or its file cannot be read.
    """
    if token is None and file is None:
        token = os.environ.get("PURGELINE_TOKEN") or None
        file = os.environ.get("PURGELINE_TOKEN_FILE")
    if token is None and file:
        from pathlib import Path  # noqa: PLC0415 - few have a file

        try:
            token = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise ValueError(f"the token's file cannot be read: {exc}") from exc
        if not token:
            raise ValueError(f"the token's file {os.fspath(file)!r} is empty")
    check_token(token or "")
    return token or ""


def check_token(token: str) -> None:
    """Raise ValueError when no header can carry *token*."""
    if not (token.isascii() and (token.isprintable() or not token)) or " " in token:
        raise ValueError("the token may hold printable ASCII without spaces only")
