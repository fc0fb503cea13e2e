"""The documents of tasks, field by field; `documents` and `by_node` fill them in.

They stand apart from those, which are compiled: msgspec reads what is said beside the types of fields.
"""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - msgspec resolves the annotations
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from engine.tasks.lower import Lower  # noqa: TC001 - msgspec resolves the annotations
from engine.tasks.plan import Note, Skipped  # noqa: TC001 - msgspec resolves the annotations
from engine.tasks.records import By
from engine.tasks.task import ERRORS_MAX
from engine.tasks.told import Told  # noqa: TC001 - msgspec resolves the annotations
from engine.tasks.verify import VerifyDocument  # noqa: TC001 - msgspec resolves the annotations
from engine.tasks.words import State

TARGETS_SHOWN: Final = 100  #: of a task's targets; its journal row has all of them


class LayerDocument(msgspec.Struct):
    """Progress of one layer, in subtasks."""

    name: str
    total: int
    counter: int
    failed: int
    delayed: int
    cancelled: int = 0


class NodeDocument(msgspec.Struct):
    """Progress of one node, in subtasks.

    ``stale``, ``verified_at`` and ``verified_digest`` are of visits after the ack; without them they are 0
    and null.
    """

    name: str
    layer: str
    total: int
    acked: int = 0
    absent: int = 0  #: of the acked ones those of which the cache said that it had nothing
    failed: int = 0
    delayed: int = 0
    cancelled: int = 0
    stale: int = 0
    acked_at: float | None = None  #: UNIX time of its last ack; None: there was none
    verified_at: float | None = None
    """UNIX time when the last of its targets that were verified was; None: none was. What is stale or could
    not be verified is in ``stale`` and in the task's ``verify``, and does not change it."""
    verified_digest: str | None = None  #: see `engine.tasks.verify.OfNode.digest`


class StoredNode(NodeDocument, omit_defaults=True):
    """What the store keeps of a node: nothing that is as `shown` would fill it in."""


class TaskDocument(msgspec.Struct):
    """What ``GET /v1/engine/task/{id}`` answers; times in UNIX seconds."""

    task_id: str
    action: str
    kind: str
    state: Annotated[str, Meta(extra_json_schema={"enum": list(State)})]
    active: Annotated[bool, Meta(description="something is left to do")]
    working_layer: Annotated[str | None, Meta(description="the first one with something left to do")]
    total: Annotated[int, Meta(description="subtasks")]
    counter: Annotated[int, Meta(description="of these, the acked ones")]
    failed: int
    delayed: Annotated[int, Meta(description="wait in the delay queues of their nodes")]
    cancelled: int
    layers: list[LayerDocument]
    created_at: float
    updated_at: float
    due_at: float
    errors: Annotated[
        Sequence[dict[str, str]],
        Meta(
            description="node, target and reason of each",
            extra_json_schema={"maxItems": ERRORS_MAX},
        ),
    ]
    skipped: Annotated[Sequence[Skipped], Meta(description="nodes that cannot do it")] = ()
    notes: Annotated[Sequence[Note], Meta(description="what nodes do otherwise than was asked")] = ()
    absent: Annotated[
        int, Meta(description="of the acked ones, those of which a cache said that it had nothing")
    ] = 0
    by: By = By()
    targets: Annotated[
        Sequence[str], Meta(description="the first of them", extra_json_schema={"maxItems": TARGETS_SHOWN})
    ] = ()
    target_count: int = 0
    settled_at: Annotated[float | None, Meta(description="when it was done, failed or cancelled")] = None
    nodes: Sequence[NodeDocument] = ()
    start_at: Annotated[float | None, Meta(description="when it begins; null: at once")] = None
    verify: Annotated[
        VerifyDocument | None,
        Meta(description="what visits after the acks came to; null: none were asked for"),
    ] = None
    retries: Annotated[str | None, Meta(description="the task of which it sends what failed")] = None
    rewind: Annotated[str | None, Meta(description="the rewind that it is a part of")] = None
    traceparent: Annotated[str | None, Meta(description="of the request that handed it in (W3C)")] = None


class ByTarget(msgspec.Struct, omit_defaults=True):
    """What became of each target of a task that an engine above handed down; see `by_target`."""

    name: str = ""
    done: str = ""  #: targets that all nodes acked, a bit each
    lost: str = ""  #: those that failed on a node, or were cancelled


class StoredDocument(TaskDocument, omit_defaults=True):
    """What the store keeps of a task: nothing that is as `stored_documents.public` would fill it in.

    ``digest``, ``callback``, ``token``, ``progress``, ``told``, ``by_target`` and ``lower`` are for the store
    alone, and never shown as they are.
    """

    digest: str | msgspec.UnsetType = msgspec.UNSET
    callback: str | msgspec.UnsetType = msgspec.UNSET
    token: str | msgspec.UnsetType = msgspec.UNSET
    progress: list[tuple[str, int, bytes]] | msgspec.UnsetType = msgspec.UNSET
    told: Told | msgspec.UnsetType = msgspec.UNSET
    by_target: ByTarget | msgspec.UnsetType = msgspec.UNSET
    lower: dict[str, Lower] | msgspec.UnsetType = msgspec.UNSET
