"""What routes answer, as structures: ``GET /openapi.json`` tells of them, and a test holds answers to them.

The document of a task is `engine.tasks.document_types.TaskDocument`, an error is
`engine.intake.problems.Problem`. Times are UNIX seconds.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from engine.api.below import LeafStatus, LeavesStatus  # noqa: TC001 - msgspec resolves the annotations
from engine.api.leaf_tasks import RegionTask  # noqa: TC001 - as above
from engine.observe.counters import GAUGES
from engine.proof.canary_results import CanaryState  # noqa: TC001 - as below
from engine.tasks.document_types import NodeDocument, TaskDocument
from engine.tasks.told import CallbackDocument  # noqa: TC001 - as above


class Status(msgspec.Struct):
    """That all is well."""

    status: Literal["ok", "ready"]


class Version(msgspec.Struct):
    """Which engine runs."""

    version: str
    revision: str
    built_at: str
    python: str
    compiled: Annotated[bool, Meta(description="whether the hot modules run as machine code")]
    loop: Annotated[str, Meta(description="the event loop: `uvloop` or `asyncio`")]
    pid: int
    uptime_s: float


class LogFormat(msgspec.Struct, forbid_unknown_fields=True):
    """The format of log lines."""

    format: Literal["struct", "dict", "text"]


class Accepted(msgspec.Struct):
    """A task that is saved."""

    task_id: str
    state: Literal["accepted"]
    total: Annotated[int, Meta(description="subtasks: targets times nodes, twice that with `prefetch`")]


class LeftOut(msgspec.Struct):
    """What a retry does not send."""

    node: str
    targets: int
    reason: str


class Retried(msgspec.Struct):
    """A retry that has begun."""

    task_id: Annotated[str, Meta(description="of the new task")]
    state: Literal["accepted"]
    total: Annotated[int, Meta(description="subtasks of all new tasks")]
    retries: Annotated[str, Meta(description="the task of which they send what failed")]
    tasks: Annotated[
        list[str],
        Meta(description="all new tasks: one for each set of targets, with the nodes where they failed"),
    ]
    left_out: list[LeftOut]


class RetryPreview(msgspec.Struct):
    """What a retry would send."""

    dry_run: bool
    total: Annotated[int, Meta(description="subtasks that would be sent")]
    retries: Annotated[str, Meta(description="the task of which they send what failed")]
    nodes: Annotated[list[str], Meta(description="that they would be sent to")]
    left_out: list[LeftOut]


class NotRetried(msgspec.Struct):
    """A task that was asked for and is not retried."""

    task_id: str
    reason: str


class Retries(msgspec.Struct):
    """What came of the retries of all tasks that were asked for."""

    retried: Annotated[int, Meta(description="tasks of which what failed is sent again")]
    tasks: list[Retried]
    not_retried: list[NotRetried]
    cursor: Annotated[str | None, Meta(description="to go on with; null: that was all")]
    incomplete: Annotated[str | UnsetType, Meta(description="why some of the history is missing")] = UNSET


class RetriesPreview(msgspec.Struct):
    """What the retries of all tasks that are asked for would send."""

    dry_run: bool
    retried: Annotated[int, Meta(description="tasks of which what failed would be sent again")]
    tasks: list[RetryPreview]
    not_retried: list[NotRetried]
    cursor: Annotated[str | None, Meta(description="to go on with; null: that was all")]
    incomplete: Annotated[str | UnsetType, Meta(description="why some of the history is missing")] = UNSET


class RewindLeftOut(msgspec.Struct):
    """What a rewind does not send."""

    kind: str
    targets: int
    reason: str


class Rewound(msgspec.Struct):
    """A rewind that has begun."""

    rewind: Annotated[str, Meta(description="its name, which its tasks have")]
    node: str
    purges: Annotated[int, Meta(description="tasks in whose place it is")]
    targets: Annotated[int, Meta(description="that are sent, each once")]
    tasks: Annotated[list[str], Meta(description="that send them, one after the other")]
    last_at: Annotated[float, Meta(description="when the last of them begins")]
    left_out: list[RewindLeftOut]
    incomplete: Annotated[
        str | UnsetType, Meta(description="why some of the history is missing, which is not sent")
    ] = UNSET


class RewindStopped(msgspec.Struct):
    """A rewind that was stopped."""

    rewind: Annotated[str, Meta(description="its name")]
    node: str
    cancelled: Annotated[list[str], Meta(description="of its tasks those that had something left to send")]


class FoundTask(TaskDocument):
    """A task, and what became of its callback."""

    callback: Annotated[
        CallbackDocument | UnsetType, Meta(description="only of a task that asked for one")
    ] = UNSET
    regions: Annotated[
        list[RegionTask] | UnsetType,
        Meta(description="with `leaves=1`: the task at nodes that are engines, as these tell"),
    ] = UNSET
    leaves: Annotated[
        list[NodeDocument] | UnsetType, Meta(description="with `leaves=1`: as `nodes`, named `eu/edge-7`")
    ] = UNSET


class TasksPage(msgspec.Struct):
    """A page of a listing."""

    tasks: list[TaskDocument]
    cursor: Annotated[str | None, Meta(description="of the next page; null: this is the last one")]
    missing_regions: Annotated[
        list[int] | UnsetType, Meta(description="of a Redis cluster, those whose master is away")
    ] = UNSET
    incomplete: Annotated[
        str | UnsetType, Meta(description="why some of the history is missing, where that was asked")
    ] = UNSET


class Held(msgspec.Struct):
    """What a node holds, of one host and operation."""

    host: str
    operation: str
    reason: str
    since: float
    refused: Annotated[int, Meta(description="refusals in a row")]
    subtasks: Annotated[int, Meta(description="that wait since then")]
    next_try_s: float


class CanaryOfKind(msgspec.Struct):
    """What the last canary showed, of one kind of purge."""

    state: CanaryState
    reason: str
    fresh_s: Annotated[
        float | None, Meta(description="from its purge to the first visit that got the new one")
    ]


class CanaryStatus(msgspec.Struct):
    """What the last canaries of a node showed; `state` is the worst of its kinds."""

    state: CanaryState
    reason: str
    at: float
    kinds: dict[str, CanaryOfKind]


class NodeStatus(msgspec.Struct):
    """One cache."""

    name: str
    layer: str
    groups: list[str]
    driver: str
    url: str
    state: Literal["ready", "catching_up", "refusing", "unproven", "sick", "down", "paused", "gone"]
    reason: Annotated[str, Meta(description="why it is not ready")]
    since: float
    waiting: int
    in_flight: int
    delayed: Annotated[int, Meta(description="rows of its delay queue")]
    oldest_delayed_s: float
    acked: int
    absent: Annotated[int, Meta(description="of the acked ones, those of which the cache had nothing")]
    refused: int
    failed: int
    evidence: Annotated[
        str, Meta(description="on what its purges count: mark, shape, prober, signature, any, none")
    ]
    held: list[Held]
    canary: Annotated[CanaryStatus | None, Meta(description="null: there was none")]
    last_error: str
    last_error_at: float
    notes: list[str]
    rewind: Annotated[str, Meta(description="the rewind that is under way; empty: none is")]
    leaves: Annotated[
        LeavesStatus | UnsetType, Meta(description="of a node that is an engine: what is below it")
    ] = UNSET


class Nodes(msgspec.Struct):
    """Every cache."""

    nodes: list[NodeStatus]
    leaves: Annotated[list[LeafStatus] | UnsetType, Meta(description="asked for with `leaves=1`")] = UNSET


class Forgotten(msgspec.Struct):
    """A node that is forgotten."""

    node: str
    failed: Annotated[int, Meta(description="subtasks that waited for it, and fail now")]


class Paused(msgspec.Struct):
    """Whether a node is paused."""

    node: str
    paused: bool
    by: Annotated[str, Meta(description="the token with which that was said first")]
    since: float


class EngineStatus(msgspec.Struct):
    """One engine of a cluster."""

    consumer: Annotated[str, Meta(description="its name in the store")]
    name: str
    host: str
    pid: int
    listen: str
    version: str
    started_at: float
    clock_ahead_s: Annotated[float, Meta(description="of its clock, ahead of that of Redis")]
    state: Literal["alive", "silent", "gone"]
    leader: bool
    pending: Annotated[int, Meta(description="journal entries at work")]
    lag_s: Annotated[float, Meta(description="age of the oldest of these")]


class Cluster(msgspec.Struct):
    """The engines that share a store; with a store of its own, `mode`, `leader` and `engines` alone."""

    mode: Literal["embedded", "cluster"]
    leader: str | None
    engines: list[EngineStatus]
    asked: Annotated[str | UnsetType, Meta(description="consumer that answers")] = msgspec.field(
        default=UNSET, name="self"
    )
    fence: int | UnsetType = UNSET
    region_count: int | UnsetType = UNSET
    pending: int | UnsetType = UNSET
    pending_of_nobody: int | UnsetType = UNSET
    missing_regions: list[int] | UnsetType = UNSET
    wait_replicas: Annotated[
        int | Literal["all"] | UnsetType, Meta(description="that a 202 waits for; `all`: those there are")
    ] = UNSET
    replicas: Annotated[
        int | UnsetType | None, Meta(description="of the master with the fewest; null: not known yet")
    ] = UNSET
    warnings: Annotated[list[str] | UnsetType, Meta(description="what a failover can lose")] = UNSET


class Rates(msgspec.Struct):
    """Events per second, as moving averages of minutes, and since the start."""

    minute: float = msgspec.field(name="1m")
    five: float = msgspec.field(name="5m")
    fifteen: float = msgspec.field(name="15m")
    avg: float
    count: int


class Objective(msgspec.Struct):
    """How the time to fresh keeps to its objective."""

    objective_s: float
    objective_share: float
    window_s: float
    counted: Annotated[int, Meta(description="times to fresh in the window, one a task and layer")]
    missed: int
    budget_left: Annotated[float, Meta(description="1: nothing was missed; below 0: more than may be")]


class OriginStatus(msgspec.Struct):
    """How an origin is left alone."""

    host: str
    paused_s: Annotated[float, Meta(description="for which nothing is fetched through to it")]
    reason: str
    held: Annotated[int, Meta(description="times that a fetch had to wait for its turn")]


class ProofStatus(msgspec.Struct):
    """Verification, and the guards of origins."""

    looks_waiting: int
    objective: Annotated[Objective | None, Meta(description="null: none is set")]
    origins: list[OriginStatus]


_GAUGES: list[tuple[str, Any]] = [
    (name, Annotated[int, Meta(description=text.lower())]) for name, text in GAUGES.items()
]
Statistics = msgspec.defstruct(
    "Statistics",
    [
        *_GAUGES,
        ("qps_boss", Annotated[Rates, Meta(description="targets taken in")]),
        ("qps_proxy", Annotated[Rates, Meta(description="requests answered by caches")]),
        ("timestamp", int),
        ("proof", Annotated[ProofStatus, Meta(description="verification, and the guards of origins")]),
    ],
    namespace={"__doc__": "Queue lengths and rates."},
)
