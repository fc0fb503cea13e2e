"""What all drivers share: request text, and the reading of statuses on which they agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.nodes.drivers.by_path import PathRequester
from engine.tasks.words import Operation, Outcome

if TYPE_CHECKING:
    from engine.config.tables import NodeConfig

REFUSALS: Final = frozenset({401, 403, 405, 407, 421, 501})
"""An ACL, a login, an unknown method, or the guard against purges that another cache passed on: whatever is
purged."""

RETRIES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Says of itself that later may be better."""

BAD_REQUEST: Final = 400
TOO_LONG: Final = "its head has too long or too many fields (the node's headers)"
"""Why a cache may answer 400 as it answers nothing else: a Varnish without any field, and it closes."""

_SUCCESS = range(200, 300)


def headers_text(node: NodeConfig) -> str:
    """Return the node's own headers as header lines."""
    return "".join(f"{name}: {value}\r\n" for name, value in node.headers.items())


def url_requester(node: NodeConfig, *, extra: str = "") -> PathRequester:
    """Return the maker of ``PURGE path`` requests with the target's host in ``Host``."""
    rest = f"\r\n{headers_text(node)}{extra}\r\n"
    return PathRequester(f"{node.purge_method} {node.purge_path}/", rest)


_GET_HEADERS: Final = {"User-Agent": "purgeline", "Accept": "*/*", "Accept-Encoding": "gzip"}


def get_requester(node: NodeConfig) -> PathRequester:
    """Return the maker of prefetch requests: what a client's GET through the cache looks like.

    The node's own headers stand instead of those of the same name, however they are written.
    """
    given = {name.lower() for name in node.headers}
    usual = "".join(
        f"{name}: {value}\r\n" for name, value in _GET_HEADERS.items() if name.lower() not in given
    )
    return PathRequester("GET /", f"\r\n{usual}{headers_text(node)}\r\n")


def read_status(status: int) -> Outcome:
    """Return the reading of a status that means the same to every purge.

    What cannot be read will never be. All else that is no success is for an operator to mend: an ACL, an
    unknown method, the guard against purges that another cache passed on, a redirect, a missing rule.
    """
    if status in _SUCCESS:
        return Outcome.ACKED
    if status in RETRIES:
        return Outcome.RETRY
    return Outcome.FAILED if status == BAD_REQUEST else Outcome.REFUSED


def read_prefetch(status: int) -> Outcome:
    """Return the reading of an answer to a prefetch: only 2xx put the content into the cache.

    Other statuses that a node keeps (``prefetch_statuses``) are read by what the answer shows: `brings`.
    """
    outcome = read_status(status)
    return Outcome.FAILED if outcome is Outcome.REFUSED else outcome


URL_ONLY: Final = frozenset({Operation.PURGE_URL, Operation.PREFETCH})
