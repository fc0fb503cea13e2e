"""By what the answers of a node are known in passing, before its driver's whole rule is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.nodes.answer import Sign
from engine.nodes.drivers.shape import MARK

if TYPE_CHECKING:
    from engine.config.tables import NodeConfig

_NUMBERED: Final = {"varnish": (b"\r\nX-Varnish: ", b"XID: ")}
"""What stands before the number of the transaction, in the head and in the page that Varnish makes itself."""


def sign_of(node: NodeConfig) -> Sign:
    """Return the sign of a node: its own mark, and which number differs in each of its answers."""
    number, again = _NUMBERED.get(node.driver, (b"", b""))
    return Sign(f"\r\n{MARK}: {node.driver} {node.name}\r\n".encode(), number, again)
