"""Varnish, with the VCL of ``templates/varnish.vcl.j2``.

``PURGE`` drops a URL with all its variants and always answers 200, cached or not. Prefix, regex and
host are bans on ``obj.http.*``, which the ban lurker can work off in the background; surrogate keys go
to the xkey vmod or are bans too (``key_mode``). Soft (``Purgeline-Soft: 1``) makes objects stale
instead of dropping them; a ban cannot be soft.

Refusals: 403 or 405 by the VCL, 501 by Varnish 8 for a method it does not know. A VCL without purge
code pipes the request to the origin, whose answer cannot be told from ours by its status alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from engine.nodes.drivers.common import headers_text, read_status, url_requester
from engine.tasks.words import Operation, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.config.tables import NodeConfig

_SOFT = "Purgeline-Soft: 1\r\n"
_BASE = frozenset(
    {
        Operation.PURGE_URL,
        Operation.SOFT_URL,
        Operation.PURGE_PREFIX,
        Operation.PURGE_REGEX,
        Operation.PURGE_HOST,
        Operation.PREFETCH,
    }
)
_BY_KEY_MODE = {
    "none": _BASE,
    "ban": _BASE | {Operation.PURGE_KEY},
    "xkey": _BASE | {Operation.PURGE_KEY, Operation.SOFT_KEY},
}


def capabilities(node: NodeConfig) -> frozenset[Operation]:
    """Return what a Varnish node can do; keys depend on ``key_mode``."""
    return _BY_KEY_MODE[node.key_mode]


def requester(node: NodeConfig, operation: Operation) -> Callable[[str], str]:
    """Return the maker of request texts for *operation*."""
    if operation is Operation.PURGE_URL:
        return url_requester(node)
    if operation is Operation.SOFT_URL:
        return url_requester(node, extra=_SOFT)
    end = f"{headers_text(node)}\r\n"
    if operation is Operation.PURGE_HOST:
        return lambda target: f"BAN / HTTP/1.1\r\nHost: {target}\r\nPurgeline-Ban-Host: {target}\r\n{end}"
    if operation in {Operation.PURGE_KEY, Operation.SOFT_KEY}:
        return _key_requester(end if operation is Operation.PURGE_KEY else _SOFT + end)

    def ban(target: str) -> str:
        _, _, host, rest = target.split("/", 3)
        pattern = f"^/{re.escape(rest)}" if operation is Operation.PURGE_PREFIX else f"^/{rest}"
        return (
            f"BAN / HTTP/1.1\r\nHost: {host}\r\nPurgeline-Ban-Host: {host}\r\n"
            f"Purgeline-Ban-Url: {pattern}\r\n{end}"
        )

    return ban


def _key_requester(end: str) -> Callable[[str], str]:
    def make(target: str) -> str:
        host = target.partition("/")[0]
        return f"PURGEKEY / HTTP/1.1\r\nHost: {host}\r\nPurgeline-Key: {target}\r\n{end}"

    return make


def read(operation: Operation, status: int, body_bytes: int) -> Outcome:  # noqa: ARG001 - one interface
    """Return the reading of an answer; 404 is a VCL that answers "not in cache" (the Varnish 3 way)."""
    if status == 404 and operation in {Operation.PURGE_URL, Operation.SOFT_URL}:  # noqa: PLR2004 - HTTP
        return Outcome.ABSENT
    return read_status(status)
