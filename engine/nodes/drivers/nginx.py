"""nginx with the cache_purge module, asked at a purge location of its own (``purge_path``).

The location is the node's setting; ``/purge`` is the usual one and the default of an empty
``purge_path``. 200 is dropped; 404 (2.3) and 412 (2.5 on) not cached; 202 a wildcard taken into the
background (3.0). 403 is the location's ``deny``; 405 a stock nginx without the module. One request
drops one object: of a response with ``Vary`` the variant that the request's own headers ask for (the node's
``headers``); when there is none of it, 404, and the others stay.

Wildcards are of the module's fork, nginx-modules/ngx_cache_purge; they take all variants along, and 412 says
that none was cached. FRiCKLE's 2.3, which Debian has, takes ``*`` for a letter and says 404.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from engine.nodes.drivers.common import URL_ONLY, read_status, url_requester
from engine.tasks.words import Operation, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.config.tables import NodeConfig

_NOT_CACHED = frozenset({404, 412})
_WITH_WILDCARD = URL_ONLY | {Operation.PURGE_PREFIX, Operation.PURGE_HOST}


def capabilities(node: NodeConfig) -> frozenset[Operation]:
    """Return what an nginx node can do: URLs, and where ``wildcard`` says so prefixes and hosts."""
    return _WITH_WILDCARD if node.wildcard else URL_ONLY


def requester(node: NodeConfig, operation: Operation) -> Callable[[str], str]:
    """Return the maker of request texts; a prefix is a URL that ends with ``*``, a host the prefix ``/``."""
    located = msgspec.structs.replace(node, purge_path=node.purge_path or "/purge")
    make = url_requester(located)
    if operation is Operation.PURGE_PREFIX:
        return lambda target: make(target + "*")
    if operation is Operation.PURGE_HOST:
        return lambda target: make(f"http://{target}/*")
    return make


def read(operation: Operation, status: int, body_bytes: int) -> Outcome:  # noqa: ARG001 - one interface
    """Return the reading of an answer."""
    if status in _NOT_CACHED:
        return Outcome.ABSENT
    return read_status(status)
