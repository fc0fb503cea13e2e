"""nginx with the cache_purge module, asked at a purge location of its own (``purge_path``).

The location is the node's setting; ``/purge`` is the usual one and the default of an empty
``purge_path``. 200 is dropped; 404 (2.3) and 412 (2.5 on) not cached; 202 a wildcard that was only queued
(``cache_purge_background_queue``), which is no ack: nothing tells when it is done. 403 is the location's
``deny``; 405 a stock nginx without the module. One request drops one object: of a response with ``Vary`` the
variant that the request's own headers ask for (the node's ``headers``); when there is none of it, 404, and
the others stay.

Wildcards are of the module's fork, nginx-modules/ngx_cache_purge; they take all variants along, and 412 says
that none was cached. Its ``cache_purge_vary_aware`` drops all variants with the one that the purge asks for,
and without that one none. FRiCKLE's 2.3, which Debian has, takes ``*`` for a letter and says 404.

Whose an answer is: an own 200 is the module's page, which names the key that went. The pages of 404 and of a
refusal are those of any nginx, also of one behind this: these are not told. Every other answer was passed on;
nginx puts its name into ``Server`` of those, too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from engine.nodes.drivers.common import URL_ONLY, read_status, url_requester
from engine.nodes.drivers.shape import Shape, unless_behind
from engine.nodes.evidence import Whose
from engine.tasks.words import Operation, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.config.tables import NodeConfig

_NOT_CACHED = frozenset({404, 412})
_WITH_WILDCARD = URL_ONLY | {Operation.PURGE_PREFIX, Operation.PURGE_HOST}

_ACCEPTED = 202
_PASSED_ON = (b"via", b"x-varnish", b"age", b"x-cache")
_LOOKED_UP = (b"x-cache-status", b"cache-status", *_PASSED_ON)
_PURGED_PAGE = re.compile(
    rb"<title>Successful purge</title>.*?<br>Key : ([^\r\n]*)|"
    rb"<p>Key: ([^<]*)</p><p>Status: (?:purged|queued)</p>",
    re.DOTALL,
)
"""Of module 2.3, and of the fork."""
_ERROR_PAGE = re.compile(
    rb"<html>\r\n<head><title>[45][0-9]{2} [^<]*</title></head>\r\n<body[^>]*>\r\n"
    rb"<center><h1>[45][0-9]{2} [^<]*</h1></center>\r\n<hr><center>([^<]+)</center>\r\n</body>\r\n</html>\r\n"
    rb"(?:<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n)*"
)


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
    if status == _ACCEPTED:
        return Outcome.REFUSED
    if status in _NOT_CACHED:
        return Outcome.ABSENT
    return read_status(status)


def refusal(operation: Operation, status: int, body_bytes: int) -> str:  # noqa: ARG001 - one interface
    """Return what an operator has to change, where a status does not say it; empty: it does."""
    queued = "it queued the purge, and nothing tells when it is done: set cache_purge_background_queue off"
    return queued if status == _ACCEPTED else ""


def brought(shape: Shape) -> bool:
    """Tell whether the answer to a GET came from the origin.

    The pages that nginx makes look like those of an nginx behind it: a field with ``$upstream_cache_status``
    tells, which is empty, and so not there, in what it made itself.
    """
    return shape.has(*_LOOKED_UP)


def whose(node: NodeConfig, operation: Operation, target: str, shape: Shape) -> Whose:
    """Return who gave an answer, by its shape and by the page that comes with it."""
    if shape.has(*_PASSED_ON):
        return Whose.FORWARDED
    if 200 <= shape.status < 300:  # noqa: PLR2004 - HTTP
        return _whose_success(node, operation, target, shape)
    page = _ERROR_PAGE.fullmatch(shape.body)
    is_nginx = page is not None and shape.all(b"server") in ([page[1]], [])  # a module can hide the name
    return Whose.UNTOLD if is_nginx and shape.one(b"content-type") == b"text/html" else Whose.FORWARDED


def _whose_success(node: NodeConfig, operation: Operation, target: str, shape: Shape) -> Whose:
    """Read a 2xx: the module's page has the key, which ends with host and path in most configurations."""
    page = _PURGED_PAGE.search(shape.body)
    if page is None:
        # The page of the module's fork may be another one: cache_purge_response_type.
        is_wild = shape.status == _ACCEPTED and node.wildcard
        return Whose.UNTOLD if is_wild else Whose.FORWARDED
    if operation is Operation.PURGE_HOST:
        key = f"{target}/*"
    else:
        key = target.partition("://")[2] + ("*" if operation is Operation.PURGE_PREFIX else "")
    named = page[1] if page[1] is not None else page[2]
    return unless_behind(node) if named.endswith(key.encode()) else Whose.UNTOLD
