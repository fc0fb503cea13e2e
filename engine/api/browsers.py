"""Browsers: pages of other sites may not use the engine by way of one.

A browser sends what any page asks it to, also to an engine that nobody but this machine can reach. It
says whose page asks (``Sec-Fetch-Site``, ``Origin``); other clients send neither. A name that a
hostile DNS server points to this machine makes that page one of the engine's own, as far as the browser
knows, and only ``Host`` tells. It is looked at where there are no tokens: a browser has none to give away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.config.places import is_loopback_host
from engine.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN: Final = frozenset({"same-origin", "none"})
_MARKS: Final = ("Origin", "Sec-Fetch-Site", "Accept-Language")
"""A browser sends at least one; with a GET by plain HTTP to a name that is not localhost, the last."""


def check_browser(method: str, headers: Mapping[str, str], *, is_open: bool) -> None:
    """Refuse what a page of another site has a browser send.

    Args:
        method: of the request.
        headers: of the request, whatever their case.
        is_open: whether the engine asks for no tokens.

    Raises:
        RequestError: 403.
    """
    host = headers.get("Host", "")
    if method not in _SAFE and not _is_own(headers, host):
        origin = headers.get("Origin", "another site")[:80]
        raise RequestError(
            403,
            f"a page of {origin!r} asks for this, and only the engine's own may; "
            "a proxy in front has to pass Host on as it is",
        )
    if is_open and any(mark in headers for mark in _MARKS) and not _is_local(host):
        raise RequestError(
            403,
            f"host: an engine without tokens serves browsers as localhost alone, not as {host[:80]!r}; "
            "give it tokens ([[auth.tokens]])",
        )


def _is_own(headers: Mapping[str, str], host: str) -> bool:
    site, origin = headers.get("Sec-Fetch-Site"), headers.get("Origin")
    if site is not None:
        return site in _OWN
    return origin is None or origin.partition("://")[2].lower() == host.lower()


def _is_local(host: str) -> bool:
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return is_loopback_host(name.lower().removesuffix("."))
