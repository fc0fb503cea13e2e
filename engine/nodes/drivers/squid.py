"""Squid as a reverse proxy (``accel vhost``): ``PURGE`` by URL.

200 is dropped, 404 with an empty body not cached; 403 the ``http_access`` rules. Squid's support of
variants is weak: of a response with ``Vary`` it drops the variant that the request's own headers ask for
(the node's ``headers``), and without them it says 404 and drops nothing.

Whose an answer is: what Squid made itself begins ``Server: squid, Mime-Version`` (or ``Mime-Version``) and
says ``X-Cache-Lookup: NONE`` once; a purge's has no body, a refusal is a page with ``X-Squid-Error``. PURGE
is never passed on; methods that Squid does not know are, and a lookup stands in their answers.
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


def capabilities(node: NodeConfig) -> frozenset[Operation]:  # noqa: ARG001 - one interface
    """Return what a Squid node can do: URLs."""
    return URL_ONLY


def requester(node: NodeConfig, operation: Operation) -> Callable[[str], str]:  # noqa: ARG001 - one interface
    """Return the maker of request texts."""
    return url_requester(node)


def read(operation: Operation, status: int, body_bytes: int) -> Outcome:  # noqa: ARG001 - one interface
    """Return the reading of an answer; an HTML body with 404 is an error page, not "not cached"."""
    if status == 404:  # noqa: PLR2004 - HTTP
        return Outcome.ABSENT if body_bytes == 0 else Outcome.REFUSED
    return read_status(status)


def brought(shape: Shape) -> bool:
    """Tell whether the answer to a GET came from the origin: Squid did not make it itself."""
    names = shape.names[1:] if shape.names[:1] == (b"server",) else shape.names
    return names[:1] != (b"mime-version",) or shape.has(b"age")


def whose(node: NodeConfig, operation: Operation, target: str, shape: Shape) -> Whose:  # noqa: ARG001 - one interface
    """Return who gave an answer, by its shape."""
    lookups = shape.all(b"x-cache-lookup")
    if brought(shape) or len(lookups) > 1 or not all(value.startswith(b"NONE ") for value in lookups):
        return Whose.FORWARDED
    if shape.one(b"content-length") != b"0" and not shape.has(b"x-squid-error"):
        return Whose.FORWARDED
    return Whose.OWN if lookups else Whose.UNTOLD
