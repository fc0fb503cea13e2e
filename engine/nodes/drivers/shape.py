"""The shape of an answer: its status, its fields in the order they were sent, the start of its body.

Caches write their own answers and those that they pass on in different ways, and the order of the fields is
part of it. What holds for every driver is read here: the mark that the templates set, and what no cache says
of itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from engine.nodes.evidence import Whose

if TYPE_CHECKING:
    from engine.config.tables import NodeConfig

MARK: Final = "Purgeline-Cache"
"""The field by which a cache says that it answered itself: ``<driver> <name of the node>``."""
NONCE: Final = "Purgeline-Nonce"
"""The field of a request that a marked cache repeats in its answer: up to 32 hexadecimal digits."""

_NO_CONTENT: Final = 204
_LINE_PARTS: Final = 3


class Shape(NamedTuple):
    """One answer, as it lay on the wire."""

    version: bytes  #: ``HTTP/1.1``
    status: int
    reason: bytes
    names: tuple[bytes, ...]  #: of the fields, in lower case
    values: tuple[bytes, ...]  #: of the same fields
    body: bytes  #: its first 2 KiB at most

    def all(self, name: bytes) -> list[bytes]:
        """Return the values of the fields called *name* (in lower case), in their order."""
        return [value for each, value in zip(self.names, self.values, strict=True) if each == name]

    def one(self, name: bytes) -> bytes | None:
        """Return the value of the only field called *name*; None when there is none, or more than one."""
        values = self.all(name)
        return values[0] if len(values) == 1 else None

    def has(self, *names: bytes) -> bool:
        """Tell whether any field is called like one of *names*."""
        return any(name in self.names for name in names)


def shape_of(answer: bytes) -> Shape | None:
    """Return the shape of an answer: its head through the empty line, and up to 2 KiB of its body.

    Returns:
        None when these bytes are no such answer.
    """
    head, end, body = answer.partition(b"\r\n\r\n")
    line, *lines = head.split(b"\r\n")
    parts = line.split(b" ", _LINE_PARTS - 1)
    if not end or len(parts) < _LINE_PARTS - 1 or not parts[1].isdigit():
        return None
    names: list[bytes] = []
    values: list[bytes] = []
    for field in lines:
        name, _, value = field.partition(b":")
        names.append(name.lower())
        values.append(value.strip())
    reason = parts[2] if len(parts) == _LINE_PARTS else b""
    return Shape(parts[0], int(parts[1]), reason, tuple(names), tuple(values), body)


def by_mark(node: NodeConfig, shape: Shape) -> Whose | None:
    """Return what the marks of an answer say; None without any.

    A mark of another node came through this one: nothing shows that the node itself did something, even when
    it put its own mark beside it.
    """
    marks = shape.all(MARK.lower().encode())
    if not marks:
        return None
    own = f"{node.driver} {node.name}".encode()
    return Whose.OWN if all(mark == own for mark in marks) else Whose.FORWARDED


def foreign(shape: Shape) -> bool:
    """Tell whether an answer is one that none of the caches makes itself."""
    return shape.status == _NO_CONTENT or shape.version != b"HTTP/1.1"


def unless_behind(node: NodeConfig) -> Whose:
    """Return whose an answer in a cache's own shape is, where a cache behind *node* would give the very same.

    Such an answer tells nothing of a node with parents, if the node passes it on byte by byte.
    """
    return Whose.UNTOLD if node.parents else Whose.OWN
