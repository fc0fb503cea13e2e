"""A node that is itself an engine: a region. Tasks are handed down to it, and it tells what became of them.

Nothing of this goes through the wire of caches; see `engine.tree`, which hands down, asks, and makes answers
of what it is told that `read` knows: 200 all leaves did it, 404 none of them had anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.nodes.drivers.common import read_status, url_requester
from engine.nodes.evidence import Whose
from engine.tasks.words import Operation, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.config.tables import NodeConfig
    from engine.nodes.drivers.shape import Shape

NAME: Final = "engine"
_ALL: Final = frozenset(Operation)
_NOT_FOUND: Final = 404


def capabilities(node: NodeConfig) -> frozenset[Operation]:  # noqa: ARG001 - one interface
    """Return what a region can do: whatever its leaves can; it says itself what they cannot."""
    return _ALL


def requester(node: NodeConfig, operation: Operation) -> Callable[[str], str]:  # noqa: ARG001 - one interface
    """Return the maker of request texts; none is ever sent."""
    return url_requester(node)


def read(operation: Operation, status: int, body_bytes: int) -> Outcome:  # noqa: ARG001 - one interface
    """Return the reading of what `engine.tree` made of a report."""
    return Outcome.ABSENT if status == _NOT_FOUND else read_status(status)


def brought(shape: Shape) -> bool:  # noqa: ARG001 - one interface
    """Tell whether the answer to a GET came from the origin: a region is not asked for pages."""
    return False


def whose(node: NodeConfig, operation: Operation, target: str, shape: Shape) -> Whose:  # noqa: ARG001 - one interface
    """Return who gave an answer by its shape; nothing but the signature tells, see `engine.tree.seal`."""
    return Whose.UNTOLD
