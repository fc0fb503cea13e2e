"""By what the answers of a node are known in passing, before its driver's whole rule is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.nodes.answer import Sign
from engine.nodes.drivers.shape import MARK

if TYPE_CHECKING:
    from engine.config.tables import NodeConfig

_NUMBERED: Final = {"varnish": (b"\r\nX-Varnish: ", b"XID: ")}
"""What stands before the number of the transaction, in the head and in the page that Varnish makes itself."""


_OF_NOTHING: Final = Sign(b"\0")


def fetch_sign_of(node: NodeConfig) -> Sign | None:
    """Return the sign of answers to prefetches, where more is read than statuses: one that none bears.

    None where 2xx alone counts: then no bytes are kept.
    """
    return _OF_NOTHING if node.prefetch_statuses else None


def sign_of(node: NodeConfig) -> Sign:
    """Return the sign of a node: its own mark, and which number differs in each of its answers."""
    number, again = _NUMBERED.get(node.driver, (b"", b""))
    return Sign(f"\r\n{MARK}: {node.driver} {node.name}\r\n".encode(), number, again)
