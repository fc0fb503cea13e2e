"""Varnish, with the VCL of ``templates/varnish.vcl.j2``.

``PURGE`` drops a URL with all its variants and always answers 200, cached or not. Prefix, regex and
host are bans on ``obj.http.*``, which the ban lurker can work off in the background; surrogate keys go
to the xkey vmod or are bans too (``key_mode``). A host pattern, ``*.example.com``, goes in headers of its
own, ``Purgeline-Ban-Hosts`` and ``Purgeline-Keys``: a VCL that does not know them refuses it. It would take
the pattern for a host's name, find nothing of that, and answer 200. Soft (``Purgeline-Soft: 1``) makes
objects stale instead of dropping them; a ban cannot be soft.

Refusals: 403 or 405 by the VCL, 501 by Varnish 8 for a method it does not know. A VCL without purge
code pipes the request to the origin, whose answer cannot be told from ours by its status alone.

Whose an answer is: an own one is synthetic. It begins ``Date, Server: Varnish, X-Varnish``, has one number of
a transaction and ends ``Content-Length, Connection: keep-alive``. What was piped ends with its connection
(the next requests on it would bypass Varnish); what was passed or looked up was delivered: ``Age``, ``Via``,
or a second number. Not told: a synthetic answer without ``Server`` or ``X-Varnish``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from engine.nodes.drivers.common import headers_text, read_status, url_requester
from engine.nodes.drivers.patterns import grouped
from engine.nodes.drivers.shape import Shape, unless_behind
from engine.nodes.evidence import Whose
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

_START = (b"date", b"server", b"x-varnish")
_END = (b"content-length", b"connection")
_PAGE_XID = re.compile(rb"<p>XID: ([0-9]+)</p>")
_UNKNOWN_METHOD = 501


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
        return lambda target: f"BAN / HTTP/1.1\r\n{_hosts(target)}{end}"
    if operation in {Operation.PURGE_KEY, Operation.SOFT_KEY}:
        return _key_requester(end if operation is Operation.PURGE_KEY else _SOFT + end)

    def ban(target: str) -> str:
        _, _, host, rest = target.split("/", 3)
        pattern = re.escape(rest) if operation is Operation.PURGE_PREFIX else grouped(rest)
        return f"BAN / HTTP/1.1\r\n{_hosts(host)}Purgeline-Ban-Url: ^/{pattern}\r\n{end}"

    return ban


def _hosts(host: str) -> str:
    """Return the lines that name a host, or all those of a pattern."""
    if host.startswith("*"):
        return f"Host: {host[2:]}\r\nPurgeline-Ban-Hosts: {host}\r\n"
    return f"Host: {host}\r\nPurgeline-Ban-Host: {host}\r\n"


def _key_requester(end: str) -> Callable[[str], str]:
    def make(target: str) -> str:
        host = target.partition("/")[0]
        name = "Purgeline-Keys" if target.startswith("*") else "Purgeline-Key"
        return f"PURGEKEY / HTTP/1.1\r\nHost: {host.removeprefix('*.')}\r\n{name}: {target}\r\n{end}"

    return make


def read(operation: Operation, status: int, body_bytes: int) -> Outcome:  # noqa: ARG001 - one interface
    """Return the reading of an answer; 404 is a VCL that answers "not in cache" (the Varnish 3 way)."""
    if status == 404 and operation in {Operation.PURGE_URL, Operation.SOFT_URL}:  # noqa: PLR2004 - HTTP
        return Outcome.ABSENT
    return read_status(status)


def whose(node: NodeConfig, operation: Operation, target: str, shape: Shape) -> Whose:  # noqa: ARG001 - one interface
    """Return who gave an answer, by its shape."""
    if _is_delivered(shape):
        return Whose.FORWARDED
    numbers = shape.all(b"x-varnish")
    if shape.all(b"connection") != [b"keep-alive"]:
        # Varnish 8 ends the connection itself after a method that it does not know.
        is_unknown = shape.status == _UNKNOWN_METHOD and shape.names[:3] == _START
        return Whose.UNTOLD if is_unknown else Whose.FORWARDED
    is_own = (
        shape.names[:3] == _START
        and shape.names[-2:] == _END
        and shape.one(b"server") == b"Varnish"
        and len(numbers) == 1
    )
    return unless_behind(node) if is_own else Whose.UNTOLD


def brought(shape: Shape) -> bool:
    """Tell whether the answer to a GET came from the origin: it is not synthetic."""
    return _is_delivered(shape)


def _is_delivered(shape: Shape) -> bool:
    """Tell whether Varnish fetched or looked up what it answered, so that nothing was purged."""
    numbers = shape.all(b"x-varnish")
    page = _PAGE_XID.search(shape.body)
    return (
        shape.has(b"age", b"via")
        or len(numbers) > 1
        or not all(number.isdigit() for number in numbers)  # of a hit there are two in one field
        or (page is not None and bool(numbers) and page[1] != numbers[0])
    )
