"""Squid as a reverse proxy (``accel vhost``): ``PURGE`` by URL.

200 is dropped, 404 with an empty body not cached; 403 the ``http_access`` rules. Squid's support of
variants is weak: of a response with ``Vary`` it drops the variant that the request's own headers ask for
(the node's ``headers``), and without them it says 404 and drops nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.nodes.drivers.common import URL_ONLY, read_status, url_requester
from engine.tasks.words import Operation, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.config.tables import NodeConfig


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
