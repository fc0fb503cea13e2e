"""Apache Traffic Server 9: ``PURGE`` by URL, all alternates at once.

200 means dropped, 404 with an empty body not cached. A 404 **with** a body is the page for a missing
remap rule: the host is not served here and nothing was looked up, which an operator must see.
403 is ``ip_allow.yaml``.

Whose an answer is: an own one begins ``Date, Connection`` and has no ``Age``; that to a purge has no body and
ends ``Content-Length: 0``, the others are ATS's error pages (``Cache-Control: no-store``). Only with caching
off, or for a method that it does not know, ATS passes a purge on; it puts its name into ``Server`` of those,
too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.nodes.drivers.common import URL_ONLY, read_status, url_requester
from engine.nodes.evidence import Whose
from engine.tasks.words import Operation, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.config.tables import NodeConfig
    from engine.nodes.drivers.shape import Shape

_ABSENT = 404
_PURGED = frozenset({200, _ABSENT})
_START = (b"date", b"connection")


def capabilities(node: NodeConfig) -> frozenset[Operation]:  # noqa: ARG001 - one interface
    """Return what an ATS node can do: URLs."""
    return URL_ONLY


def requester(node: NodeConfig, operation: Operation) -> Callable[[str], str]:  # noqa: ARG001 - one interface
    """Return the maker of request texts."""
    return url_requester(node)


def read(operation: Operation, status: int, body_bytes: int) -> Outcome:  # noqa: ARG001 - one interface
    """Return the reading of an answer; the body's length tells the two kinds of 404 apart."""
    if status == _ABSENT:
        return Outcome.ABSENT if body_bytes == 0 else Outcome.REFUSED
    return read_status(status)


def whose(node: NodeConfig, operation: Operation, target: str, shape: Shape) -> Whose:  # noqa: ARG001 - one interface
    """Return who gave an answer, by its shape."""
    if shape.names[:2] != _START or shape.has(b"age"):
        return Whose.FORWARDED
    if shape.status in _PURGED and not shape.body:
        is_own = shape.names[-1] == b"content-length" and shape.values[-1] == b"0"
    else:
        is_own = shape.status >= 400 and shape.one(b"cache-control") == b"no-store"  # noqa: PLR2004 - HTTP
    return Whose.OWN if is_own else Whose.FORWARDED
