"""What the page shows of an engine at one moment, and what has changed since the one before. Pure."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

Document: TypeAlias = dict[str, Any]


class Picture(msgspec.Struct):
    """An engine at one moment."""

    at: float  #: UNIX time
    nodes: list[Document] | None  #: as `GET /v1/engine/nodes` has them; None: not known yet
    stats: Document  #: as `GET /v1/engine/stats`
    cluster: Document  #: as `GET /v1/engine/cluster`
    not_ready: str = ""  #: why the engine takes no tasks; empty: it does
    trouble: str = ""  #: why some of this is older than *at*; empty: none is


class Change(msgspec.Struct, omit_defaults=True):
    """What is another than in the picture before; what has not changed is left out."""

    at: float
    stats: Document
    nodes: list[Document] = []  #: the fields that changed, and ``name``
    gone: list[str] = []  #: nodes that are not there any more
    cluster: Document | None = None
    not_ready: str | None = None
    trouble: str | None = None


def change(before: Picture, now: Picture) -> Change:
    """Return what has changed from one picture to the next; in neither are the nodes not known yet."""
    known = {node["name"]: node for node in before.nodes or ()}
    nodes = []
    for node in now.nodes or ():
        old = known.pop(node["name"], None)
        if old is None:
            nodes.append(node)
        elif old != node:
            changed = {key: value for key, value in node.items() if old.get(key) != value or key not in old}
            nodes.append({"name": node["name"], **changed})
    return Change(
        now.at,
        now.stats,
        nodes,
        list(known),
        None if now.cluster == before.cluster else now.cluster,
        None if now.not_ready == before.not_ready else now.not_ready,
        None if now.trouble == before.trouble else now.trouble,
    )
