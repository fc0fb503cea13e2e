"""Apache Traffic Server 9: ``PURGE`` by URL, all alternates at once.

200 means dropped, 404 with an empty body not cached. A 404 **with** a body is the page for a missing
remap rule: the host is not served here and nothing was looked up, which an operator must see.
403 is ``ip_allow.yaml``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.nodes.drivers.common import URL_ONLY, read_status, url_requester
from engine.tasks.words import Operation, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.config.tables import NodeConfig


def capabilities(node: NodeConfig) -> frozenset[Operation]:  # noqa: ARG001 - one interface
    """Return what an ATS node can do: URLs."""
    return URL_ONLY


def requester(node: NodeConfig, operation: Operation) -> Callable[[str], str]:  # noqa: ARG001 - one interface
    """Return the maker of request texts."""
    return url_requester(node)


def read(operation: Operation, status: int, body_bytes: int) -> Outcome:  # noqa: ARG001 - one interface
    """Return the reading of an answer; the body's length tells the two kinds of 404 apart."""
    if status == 404:  # noqa: PLR2004 - HTTP
        return Outcome.ABSENT if body_bytes == 0 else Outcome.REFUSED
    return read_status(status)
