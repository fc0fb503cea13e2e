"""Ban expressions of Varnish, as far as they say which host and which path: those are ordinary purges. Pure.

An expression is written for one VCL: what a field like ``obj.http.x-url`` holds, only that knows. Taken are
the names that varnish-towncrier's own VCL and Varnish's documentation use for host and path; whatever else
stands in one is refused, because to leave it out would purge more than was meant, or nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from engine.doors.asked import Asked, anywhere
from engine.errors import RequestError

if TYPE_CHECKING:
    from engine.doors.hosts import Hosts

_HOST_FIELDS: Final = frozenset({"req.http.host", "obj.http.host", "obj.http.x-host"})
_PATH_FIELDS: Final = frozenset({"req.url", "obj.http.url", "obj.http.x-url"})
_TERM: Final = re.compile(r"\s*(\S+)\s+(==|~)\s+(?:\"([^\"]*)\"|(\S+))\s*")
EVERY_PATH: Final = frozenset(
    {"", ".", ".*", "^.*", ".*$", "^.*$", "/", "^/", "/.*", "^/.*", "/.*$", "^/.*$"}
)
_TAKES: Final = (
    "takes req.url and req.http.host (obj.http.x-url, obj.http.x-host), with == or ~, and && between them, "
    "such as: req.http.host == www.example.com && req.url ~ ^/news/"
)


def of_ban(expression: str, host: str, hosts: Hosts) -> Asked:
    """Return the purge that a ban is.

    Args:
        expression: of Varnish.
        host: of its message; for an expression that names none.
        hosts: that may be purged.

    Raises:
        RequestError: 400, 403.
    """
    named: list[str] | None = None
    path: tuple[str, str] | None = None
    for term in expression.split("&&"):
        match = _TERM.fullmatch(term)
        field = match[1].lower() if match is not None else ""
        if match is None or field not in _HOST_FIELDS | _PATH_FIELDS:
            raise RequestError(400, f"ban: {term.strip()[:100]!r}: {_TAKES}")
        value = match[3] if match[3] is not None else match[4]
        if field in _HOST_FIELDS and named is None:
            is_pattern = match[2] == "~"
            named = hosts.matching(value, "", "", is_exact=True) if is_pattern else hosts.named("", value)
        elif field in _PATH_FIELDS and path is None:
            path = match[2], value
        else:
            raise RequestError(400, f"ban: {field} is there twice; takes it once")
    everywhere = named if named is not None else hosts.named_or_all("", host)
    return _of(path, everywhere)


def _of(path: tuple[str, str] | None, hosts: list[str]) -> Asked:
    if path is None:
        return Asked("host", hosts)
    operator, value = path
    if operator == "==":
        if not value.startswith("/"):
            raise RequestError(400, f"ban: {value[:100]!r} is no path, such as /news/1")
        if any(host.startswith("*") for host in hosts):
            return Asked("regex", [f"http://{host}/{re.escape(value[1:])}$" for host in hosts])
        return Asked("url", [f"http://{host}{value}" for host in hosts])
    return of_pattern(value, hosts)


def of_pattern(pattern: str, hosts: list[str]) -> Asked:
    """Return the purge of all paths that a pattern matches anywhere."""
    if pattern in EVERY_PATH:
        return Asked("host", hosts)
    return Asked("regex", [f"http://{host}/{anywhere(pattern)}" for host in hosts])
