"""What leaves did for a task: asked of the regions that it was handed down to, a request for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Meta

from engine.api.below import MARK, Order, is_leaf, one_line
from engine.tasks.document_types import NodeDocument  # noqa: TC001 - msgspec resolves the annotations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from engine.api.below import Below, Said

LEAVES_MAX: Final = 2000  #: of a region, that are shown
_ERRORS_MAX: Final = 20
_NOT_FOUND: Final = 404
_HANDED_DOWN: Final = "tree"  #: see `By.door`
_IN_PARTS: Final = (
    "its engine has no task of that id: it got what it has of it later and in parts, or has forgotten it"
)


class RegionTask(msgspec.Struct):
    """A task as the engine of one region has it; counts are of subtasks there."""

    name: str
    state: Annotated[str, Meta(description="empty: it does not tell")]
    leaves: int
    total: int
    acked: int
    failed: int
    delayed: int
    cancelled: int
    acked_at: Annotated[float | None, Meta(description="of its last leaf; null: none acked")]
    settled_at: float | None
    errors: Annotated[list[dict[str, str]], Meta(description="the first ones, with the names of leaves")]
    verify: dict[str, Any] | None
    error: Annotated[str, Meta(description="why it does not tell")]


class _Task(msgspec.Struct):
    """A region's document, as far as it is taken over."""

    state: str
    total: int
    counter: int
    failed: int
    delayed: int
    cancelled: int
    nodes: list[NodeDocument] = []
    errors: list[dict[str, str]] = []
    settled_at: float | None = None
    verify: dict[str, Any] | None = None
    regions: list[RegionTask] = []
    leaves: list[NodeDocument] = []
    by: dict[str, str] = {}


_decode: Final = msgspec.json.Decoder(_Task).decode


async def add_leaves(document: dict[str, Any], below: Below, request: web.Request, *, by: str) -> None:
    """Add ``regions`` and ``leaves`` to a task's document.

    Args:
        document: of the task.
        below: asks.
        request: that is answered.
        by: name of the client's token.
    """
    regions = [node["name"] for node in document.get("nodes", ()) if node["name"] in below.regions]
    task_id = below.task_id(document["task_id"], document["action"])
    said = await below.ask(regions, f"/v1/engine/task/{task_id}?leaves=1", request, Order(by))
    parts = [_read(one) for one in said]
    document["regions"] = [region for region, _ in parts]
    document["leaves"] = [leaf for _, leaves in parts for leaf in leaves]


def _read(said: Said) -> tuple[RegionTask, list[NodeDocument]]:
    if said.status == _NOT_FOUND:
        return _silent(said.node, _IN_PARTS), []
    if said.error:
        return _silent(said.node, said.error), []
    try:
        task = _decode(said.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        return _silent(said.node, one_line(f"its answer cannot be read: {exc}")), []
    if task.by.get("door") != _HANDED_DOWN:  # a client of the region has the same id for another one
        return _silent(said.node, _IN_PARTS), []
    below = {region.name for region in task.regions}
    own = [node for node in task.nodes if node.name not in below]
    leaves = [_named(said.node, leaf) for leaf in (*own, *task.leaves) if is_leaf(leaf.name)]
    region = RegionTask(
        name=said.node,
        state=one_line(task.state),
        leaves=len(leaves),
        total=task.total,
        acked=task.counter,
        failed=task.failed,
        delayed=task.delayed,
        cancelled=task.cancelled,
        acked_at=max((leaf.acked_at for leaf in leaves if leaf.acked_at), default=None),
        settled_at=task.settled_at,
        errors=[_error(said.node, error) for error in task.errors[:_ERRORS_MAX]],
        verify=task.verify,
        error="; ".join(one_line(f"{each.name}: {each.error}") for each in task.regions if each.error),
    )
    return region, leaves[:LEAVES_MAX]


def _silent(name: str, error: str) -> RegionTask:
    return RegionTask(name, "", 0, 0, 0, 0, 0, 0, None, None, [], None, error)


def _named(region: str, leaf: NodeDocument) -> NodeDocument:
    return msgspec.structs.replace(leaf, name=region + MARK + leaf.name, layer=one_line(leaf.layer))


def _error(region: str, error: Mapping[str, str]) -> dict[str, str]:
    return {
        "node": f"{region}{MARK}{one_line(error.get('node', ''))}",
        "target": one_line(error.get("target", "")),
        "reason": one_line(error.get("reason", "")),
    }
