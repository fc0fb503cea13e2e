"""What the routes that look into a running engine answer: a part of each worker."""

from __future__ import annotations

import msgspec

from engine.api.debug_task import DebugTaskOfWorker  # noqa: TC001
from engine.debugging.collector import DebugGcOfWorker  # noqa: TC001 - msgspec resolves the annotations
from engine.debugging.coroutines import DebugTasksOfWorker  # noqa: TC001
from engine.debugging.exchanges import DebugWireOfWorker  # noqa: TC001
from engine.debugging.heap import DebugHeapOfWorker  # noqa: TC001
from engine.debugging.lag import DebugLoopOfWorker  # noqa: TC001
from engine.debugging.sampler import DebugProfileOfWorker  # noqa: TC001
from engine.debugging.threads import DebugThreadsOfWorker  # noqa: TC001


class DebugTrouble(msgspec.Struct):
    """A worker that could not be looked into."""

    worker: str
    why: str


class DebugThreads(msgspec.Struct):
    """The threads of all workers."""

    workers: list[DebugThreadsOfWorker]
    troubles: list[DebugTrouble]


class DebugTasks(msgspec.Struct):
    """The tasks of all workers' loops."""

    workers: list[DebugTasksOfWorker]
    troubles: list[DebugTrouble]


class DebugGc(msgspec.Struct):
    """The garbage collectors of all workers."""

    workers: list[DebugGcOfWorker]
    troubles: list[DebugTrouble]


class DebugLoop(msgspec.Struct):
    """The loops of all workers."""

    workers: list[DebugLoopOfWorker]
    troubles: list[DebugTrouble]


class DebugProfile(msgspec.Struct):
    """The profiles of all workers."""

    workers: list[DebugProfileOfWorker]
    troubles: list[DebugTrouble]


class DebugHeap(msgspec.Struct):
    """What all workers have in memory."""

    workers: list[DebugHeapOfWorker]
    troubles: list[DebugTrouble]


class DebugWire(msgspec.Struct):
    """What passed between all workers and one node."""

    workers: list[DebugWireOfWorker]
    troubles: list[DebugTrouble]


class DebugTask(msgspec.Struct):
    """What all workers know of a task."""

    workers: list[DebugTaskOfWorker]
    troubles: list[DebugTrouble]
