"""The protocol between an engine and the engine above it: what is sent, under which names. Pure.

All bodies are JSON; what is handed down is NDJSON, a task a line, as ``POST /v1/engine/tasks`` takes it.
Fields are only added. A child says which `VERSION` it speaks, and is sent nothing of a later one.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from engine.tasks.plan import Note, Skipped  # noqa: TC001 - msgspec reads the annotations

VERSION: Final = 3
"""Of the protocol: what this engine speaks. It answers every version before. 2: `CANCEL`. 3: groups."""
SINCE: Final[dict[str, int]] = {"groups": 3}
"""Fields of `Handed` that came later than the first version, with the version of each."""
TASKS: Final = "/v1/engine/tree/tasks"  #: takes what is handed down
ASK: Final = "/v1/engine/tree/ask"  #: tells what became of it
CANCEL: Final = "/v1/engine/tree/cancel"  #: cancels tasks with all of their parts
CANCEL_SINCE: Final = 2  #: the version that knows it

TYPES: Final = {TASKS: "application/x-ndjson", ASK: "application/json", CANCEL: "application/json"}
"""Of the bodies that the routes take."""

PATH: Final = "Purgeline-Tree-Path"
"""Header of a request: the engines that its tasks came through, by name and key, the root first."""
ABOVE: Final = "Purgeline-Tree-Above"
"""Header of a request: the engines that have ever asked the one that sends it, as `PATH` has them. Those of
late deliveries, whose tasks have gone, are told apart from a loop by it."""
VERSION_HEADER: Final = "Purgeline-Tree-Version"  #: of a request and of its answer
KEY: Final = "Purgeline-Tree-Key"  #: of an answer: the name of the key that signed it (RFC 7638)
SIGNATURE: Final = "Purgeline-Tree-Signature"  #: of an answer, see `engine.tree.seal`

BY: Final = "Purgeline-Tree-By"  #: of a question: who asks, for the log of the engine that is asked
WITHIN: Final = "Purgeline-Tree-Within"  #: of a question: seconds that are waited for its answer
ANSWER_MAX_BYTES: Final = 64 * 1024 * 1024  #: of an answer about tasks; a longer one is not read
SAID_MAX_BYTES: Final = 16 * 1024 * 1024  #: of one to an operator's question

LINES_MAX: Final = 1000  #: tasks of one request
BODY_BYTES: Final = 4 * 1024 * 1024  #: of one request, about; the child's ``body_max_bytes`` has to take it
IDS_MAX: Final = 1000  #: tasks of one question
WAIT_MAX_S: Final = 20.0  #: as long as a question may wait for something to tell
DEPTH_MAX: Final = 8  #: engines above one
REMARKS_MAX: Final = (
    100  #: nodes that are skipped, or do something otherwise, of one task: an answer has 1000
)
LEAVES_MAX: Final = 10_000  #: that a child tells of, those with something wrong first


class Handed(msgspec.Struct, omit_defaults=True):
    """A task as it is handed down: a client's body, of targets in stored form.

    What it holds follows from the task and the targets alone, so the same share gives the same bytes, also
    after a crash: an id never meets another body.
    """

    id: str
    targets: list[str]
    action: str = "purge"
    kind: str = "url"
    soft: bool = False
    due_s: float | None = None
    nodes: list[str] = []
    layers: list[str] = []
    groups: list[str] = []
    literal: bool | msgspec.UnsetType = msgspec.UNSET
    confirm: bool | msgspec.UnsetType = msgspec.UNSET
    rebound_s: float | msgspec.UnsetType = msgspec.UNSET
    verify: Any = msgspec.UNSET
    on_incapable: str | msgspec.UnsetType = msgspec.UNSET  #: the client's word; else each engine's


_DEFAULTS: Final = Handed("", [])


def lacking(handed: Handed, version: int) -> str:
    """Return what a child of an older version would not know of a task; empty: it knows all."""
    for name, since in SINCE.items():
        if since > version and getattr(handed, name) != getattr(_DEFAULTS, name):
            return f"{name!r} came with version {since}"
    return ""


class Line(msgspec.Struct):
    """What the child answers to one piece: a problem has a status."""

    status: int = 0
    task_id: str = ""
    detail: str = ""
    field: str = ""


decode_line: Final = msgspec.json.Decoder(Line).decode


class Question(msgspec.Struct):
    """``POST /v1/engine/tree/ask``."""

    tasks: dict[str, str] = {}  #: id → `Report.seen` of the last report of it; empty: none came
    wait_s: float = 0  #: until one of them has something new to tell, at the most `WAIT_MAX_S`
    leaves: str | None = None  #: `Leaves.seen` of the last ones; empty: none came; None: not asked for


class Cancel(msgspec.Struct):
    """``POST /v1/engine/tree/cancel``."""

    tasks: list[str]  #: at the most `IDS_MAX`; each stands for its parts, too: `engine.tasks.handed_ids`


class Cancelled(msgspec.Struct):
    """What a child answers to that."""

    cancelled: int  #: how many tasks were at work, or waited, and are cancelled


class Report(msgspec.Struct, omit_defaults=True):
    """What became of one task; counts are subtasks of the child's, times are its UNIX seconds."""

    id: str
    seen: str  #: changes when the rest does; means nothing else
    state: str
    total: int
    targets: int
    acked: int = 0
    absent: int = 0  #: of the acked ones
    failed: int = 0
    delayed: int = 0
    cancelled: int = 0
    at_work: int = 0  #: neither settled nor in a delay queue
    acked_at: float = 0
    settled_at: float = 0
    done: str = ""  #: targets that all leaves acked: a bit each, hex, the first target the lowest bit
    lost: str = ""  #: those that failed for good on a leaf, or were cancelled there; as `done`
    errors: list[dict[str, str]] = []  #: node, target, reason; names of leaves as seen from the child
    verify: dict[str, Any] | None = None
    age_s: float = 0  #: since the child took the task in: longer than the root's is old, it is another
    acked_ago_s: float = 0  #: since a leaf acked last; 0: none did, or just now
    digest: str = ""  #: of the task's body as it was accepted, hex; see `engine.intake.task_body.digest_of`
    name: str = ""  #: of what it asks of which targets, see `engine.tasks.by_target`; empty: it is not told
    skipped: list[Skipped] = []  #: nodes that cannot do it; told when nothing is at work, as *notes*
    notes: list[Note] = []  #: what nodes do otherwise than was asked


class Leaf(msgspec.Struct, omit_defaults=True):
    """A node below the child that is no engine, or is one whose leaves nobody knows."""

    name: str  #: as seen from the child: ``edge-7``, ``fr/edge-7``
    state: str  #: as ``GET /v1/engine/nodes`` has it
    layer: str = ""
    driver: str = ""
    reason: str = ""  #: why it is not ready
    delayed: int = 0  #: rows of its delay queue
    oldest_delayed_s: float = 0
    age_s: float = 0  #: since that was so; 0: it is so now
    groups: list[str] = []  #: that it is in, or an engine on the way to it


class Leaves(msgspec.Struct, omit_defaults=True):
    """All nodes below a child."""

    seen: str  #: changes when the rest does; means nothing else
    leaves: list[Leaf] = []  #: at the most `LEAVES_MAX`
    left_out: int = 0  #: that would be more
    layers: list[str] = []  #: of all nodes, ways in front: ``edge``, ``fr/edge``; empty: by a version before
    groups: list[str] = []  #: as *layers*
    untold: list[str] = []  #: engines among the nodes that have not told of theirs yet


class Answer(msgspec.Struct):
    """What a child answers a question."""

    version: int  #: of the protocol
    engine: str  #: its name
    release: str  #: its program's version
    delayed: int  #: rows in its delay queues: when it falls, tasks that were held may be done
    tasks: list[Report]
    unknown: list[str] = []  #: ids that it has no task of: they were never taken, or were forgotten since
    keys: list[str] = []  #: public keys of all engines of its place (``x`` of each); to a question of no task
    leaves: Leaves | None = None  #: asked for, and others than those that the question has seen


def flags_of(bits: str, count: int) -> bytearray:
    """Return for each of *count* targets whether its bit is set.

    Raises:
        ValueError: *bits* is no hexadecimal number, or of more targets.
    """
    flags = bytearray(count)
    if not bits:
        return flags
    number = int(bits, 16)
    if number < 0 or number.bit_length() > count:
        raise ValueError(f"a report of {number.bit_length()} targets where there are {count}")
    text = f"{number:0{count}b}"
    for place in range(count):
        flags[place] = text[count - 1 - place] == "1"
    return flags
