"""What is below this engine: nodes that are engines themselves, and what they tell of theirs.

A leaf is called by the nodes on the way to it: ``eu/edge-7``, ``eu/fr/edge-7``. `engine.tree` answers; an
engine without such nodes has `NONE_BELOW`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple, Protocol

import msgspec
from msgspec import Meta

from engine.config.checks import NAME
from engine.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from aiohttp import web

MARK: Final = "/"  #: between the names of nodes, in that of a leaf
DEPTH_MAX: Final = 8  #: engines above one
_NAME: Final = NAME.pattern
_LEAF: Final = re.compile(rf"{_NAME}(?:{MARK}{_NAME}){{0,{DEPTH_MAX}}}")
_TEXT_MAX: Final = 1000
_REFUSED: Final = 400
_FORBIDDEN: Final = 403


class WorstLeaf(msgspec.Struct):
    """The leaf with the most wrong."""

    name: str
    state: str
    reason: str


class LeavesStatus(msgspec.Struct):
    """The leaves below a node that is an engine, as it told them last."""

    count: int
    states: Annotated[dict[str, int], Meta(description="leaves by their state")]
    delayed: Annotated[int, Meta(description="rows of their delay queues")]
    oldest_delayed_s: float
    worst: Annotated[WorstLeaf | None, Meta(description="null: all are ready")]
    unwell_since: Annotated[float, Meta(description="since when a leaf was not ready; 0: all are")]
    engine: Annotated[str, Meta(description="its name there")]
    release: Annotated[str, Meta(description="its version")]
    learned_at: Annotated[float, Meta(description="0: it has told nothing yet")]
    current: Annotated[bool, Meta(description="false: it does not answer, and this is the last known")]
    left_out: Annotated[int, Meta(description="leaves beyond those that are told one by one")]
    error: Annotated[str, Meta(description="why nothing newer is known")]


class LeafStatus(msgspec.Struct):
    """One leaf."""

    name: Annotated[str, Meta(description="by the nodes on the way to it: `eu/edge-7`")]
    region: Annotated[str, Meta(description="the node of this engine that it is below")]
    layer: str
    driver: str
    state: str
    reason: str
    delayed: int
    oldest_delayed_s: float
    learned_at: float
    current: bool
    groups: list[str] = []


class Said(NamedTuple):
    """What a node that is an engine answered to a question."""

    node: str
    status: int = 0  #: of HTTP; 0: no answer, or one that nothing shows to be its own
    body: bytes = b""
    error: str = ""  #: why there is no answer, or what it refuses

    @property
    def is_told(self) -> bool:
        """Whether it answered what it was asked."""
        return not self.error

    def document(self) -> dict[str, Any]:
        """Return its answer.

        Raises:
            RequestError: 502, there is none; or what the node refused it with.
        """
        if self.error:
            status = self.status if _REFUSED <= self.status < _SERVER_ERROR else 502
            raise RequestError(502 if status in _OWN else status, f"{self.node}: {self.error}")
        try:
            document = msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise RequestError(502, f"{self.node}: its answer cannot be read: {exc}") from None
        if not isinstance(document, dict):
            raise RequestError(502, f"{self.node}: its answer is no object")
        return document


_SERVER_ERROR: Final = 500
_OWN: Final = frozenset({401, 403})  #: of this engine's token there, which is none of its client's


class Order(NamedTuple):
    """What a client asks of nodes."""

    by: str  #: its token, for their logs
    method: str = "GET"  #: of HTTP
    body: bytes = b""  #: JSON


class Below(Protocol):
    """Answers for the nodes that are engines."""

    @property
    def regions(self) -> Collection[str]:
        """Their names."""

    def status(self, node: str) -> LeavesStatus | None:
        """Return what is known of a node's leaves; None: it is no engine."""

    async def leaves(self) -> list[LeafStatus]:
        """Return all leaves that are known; of thousands not in one turn of the loop."""

    def task_id(self, task_id: str, action: str) -> str:
        """Return what the nodes call a task."""

    async def ask(self, nodes: Sequence[str], where: str, request: web.Request, order: Order) -> list[Said]:
        """Ask nodes at once, and return what each says, in their order. It never raises.

        Args:
            nodes: of `regions`.
            where: path and query there.
            request: that is answered by it: of how long and through which engines.
            order: what is asked of them.
        """


class _Nothing:
    regions: Collection[str] = ()

    def status(self, node: str) -> LeavesStatus | None:
        return None

    async def leaves(self) -> list[LeafStatus]:
        """Return nothing."""
        return []

    def task_id(self, task_id: str, action: str) -> str:
        """Return it as it is."""
        return task_id if action else ""

    async def ask(self, nodes: Sequence[str], where: str, request: web.Request, order: Order) -> list[Said]:
        """Return nothing."""
        return []


NONE_BELOW: Final[Below] = _Nothing()


def region_of(name: str, below: Below) -> tuple[str, str] | None:
    """Return the region of a leaf and the leaf's name there; None: the name is no leaf's.

    Raises:
        RequestError: 404, there is no such region.
    """
    region, mark, leaf = name.partition(MARK)
    if not mark:
        return None
    if region not in below.regions or not is_leaf(leaf):
        if region in below.regions:
            raise RequestError(
                404, f"{name!r}: takes the name of a node of {region}, such as {region}/edge-7"
            )
        regions = ", ".join(below.regions) or "none"
        raise RequestError(
            404, f"{name!r}: {region!r} is no node of this engine that is an engine itself ({regions})"
        )
    return region, leaf


def is_leaf(name: str) -> bool:
    """Tell whether a name is one that a leaf, or a node, can have."""
    return _LEAF.fullmatch(name) is not None


def one_line(text: str) -> str:
    """Return a text of another engine on one line, without control characters, and not too long."""
    is_plain = text.isprintable() and "  " not in text and not text.startswith(" ")
    if is_plain and len(text) <= _TEXT_MAX and not text.endswith(" "):  # as nearly every one is
        return text
    shown = "".join(char if char.isprintable() else " " for char in text[: 2 * _TEXT_MAX])
    return " ".join(shown.split())[:_TEXT_MAX]
