"""Apache Traffic Server 9: ``PURGE`` by URL, all alternates at once; more by its plug-ins.

With ``rules_file`` prefixes, regexes and hosts are rules of the plug-in regex_revalidate (`rules`): no
request asks for them. With ``generation_header`` a host is purged by the plug-in remap_purge, which gives all
that a remap rule has a new generation, and answers 200 with a page that begins ``PURGED``; so are prefixes
and regexes where there are no rules.

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

from engine.nodes.drivers import rules
from engine.nodes.drivers.common import URL_ONLY, headers_text, read_status, url_requester
from engine.nodes.evidence import Whose
from engine.tasks.words import Operation, Outcome, host_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.config.tables import NodeConfig
    from engine.nodes.drivers.shape import Shape

_OK = 200
_ABSENT = 404
_PURGED = frozenset({200, _ABSENT})
_START = (b"date", b"connection")
_END = (b"content-length", b"content-type")


def capabilities(node: NodeConfig) -> frozenset[Operation]:
    """Return what an ATS node can do: URLs, and by its plug-ins prefixes, regexes and hosts."""
    return URL_ONLY | rules.OPERATIONS if node.rules_file or node.generation_header else URL_ONLY


def by_rules(node: NodeConfig) -> frozenset[Operation]:
    """Return what rules in a file do. A host goes by its generation where there is one: at once."""
    if not node.rules_file:
        return frozenset()
    return rules.OPERATIONS - {Operation.PURGE_HOST} if node.generation_header else rules.OPERATIONS


def requester(node: NodeConfig, operation: Operation) -> Callable[[str], str]:
    """Return the maker of request texts."""
    return _generation_requester(node) if operation in rules.OPERATIONS else url_requester(node)


def _generation_requester(node: NodeConfig) -> Callable[[str], str]:
    """Return the maker of requests that give all of a target's host another generation."""
    rest = f"{node.generation_header}: {node.generation_secret}\r\n{headers_text(node)}\r\n"

    def make(target: str) -> str:
        return f"{node.purge_method} {node.purge_path}/ HTTP/1.1\r\nHost: {host_of(target)}\r\n{rest}"

    return make


def read(operation: Operation, status: int, body_bytes: int) -> Outcome:
    """Return the reading of an answer; the body's length tells the two kinds of 404 apart.

    A purge of a generation is answered by a page: without one it was taken for a purge of the URL ``/``, as
    it is where the plug-in is not loaded, or the secret is another one.
    """
    if operation in rules.OPERATIONS and status in _PURGED:
        return Outcome.ACKED if status == _OK and body_bytes else Outcome.REFUSED
    if status == _ABSENT:
        return Outcome.ABSENT if body_bytes == 0 else Outcome.REFUSED
    return read_status(status)


def refusal(operation: Operation, status: int, body_bytes: int) -> str:
    """Return what an operator has to change, where a status does not say it; empty: it does. See `read`."""
    if operation in rules.OPERATIONS and status in _PURGED and not body_bytes:
        plugin = "the remap_purge plug-in for this host, with the header and the secret of its [[node]]"
        return f"no generation was purged: give it {plugin}"
    return ""


def brought(shape: Shape) -> bool:
    """Tell whether the answer to a GET came from the origin: its pages of errors are shaped otherwise."""
    return shape.names[:2] != _START or shape.has(b"age")


def whose(node: NodeConfig, operation: Operation, target: str, shape: Shape) -> Whose:  # noqa: ARG001 - one interface
    """Return who gave an answer, by its shape."""
    if brought(shape):
        return Whose.FORWARDED
    if operation in rules.OPERATIONS and shape.status == _OK and shape.body:
        is_own = shape.body.startswith(b"PURGED ") and shape.names[-2:] == _END
    elif shape.status in _PURGED and not shape.body:
        is_own = shape.names[-1] == b"content-length" and shape.values[-1] == b"0"
    else:
        is_own = shape.status >= 400 and shape.one(b"cache-control") == b"no-store"  # noqa: PLR2004 - HTTP
    return Whose.OWN if is_own else Whose.FORWARDED
