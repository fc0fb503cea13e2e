"""Tasks that have settled, as the history keeps them: many in one record, a column for each fact. Pure.

A column costs a comprehension (`engine.tasks.columns`) and compresses well; a record for each task would cost
more. Of a task of which
every subtask was acked the plan tells the nodes, so nothing is kept of its shares. Of any other the state
bytes of every share are kept: who retries it needs to know what failed where.

A partial task is in the history from when it is stored. What late delivery, or a cancel, makes of it later is
a `Change` of its own.
"""

from __future__ import annotations

from array import array
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import msgspec

from engine.tasks.words import Kind, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_STATES: Final = (
    State.ACCEPTED,
    State.RUNNING,
    State.DONE,
    State.PARTIAL,
    State.FAILED,
    State.CANCELLED,
)
"""A state is stored as its place here, so new ones come last."""
_NUMBERS: Final = {state: number for number, state in enumerate(_STATES)}
DONE_BYTE: Final = bytes([_NUMBERS[State.DONE]])
WIDE: Final = frozenset({Kind.PREFIX, Kind.REGEX, Kind.HOST})


class Shape(msgspec.Struct, array_like=True, frozen=True):
    """What tasks of one record often share. Fields are only added."""

    action: str
    kind: str
    soft: bool
    prefetch: bool
    token: str  #: as `Task.token`: who may see it
    plan: bytes  #: key of the plan; empty: the shares are with the task
    by: tuple[str, str, str]  #: token, address and door of its client


class Part(msgspec.Struct, array_like=True, frozen=True):
    """One node's share of a task."""

    node: str
    layer: str
    operation: int
    states: bytes  #: a byte per target, as in `Share.states`


class Odd(msgspec.Struct, array_like=True, frozen=True):
    """What is kept of a task of which not every subtask was acked, or whose nodes no plan tells."""

    parts: list[Part]
    errors: list[tuple[str, str, str]]  #: node, target, reason; as many as its document has


class SettledTasks(msgspec.Struct, array_like=True, tag="tasks"):
    """Tasks in the order in which they settled. Fields are only added."""

    ids: list[str]
    created: bytes  #: doubles, UNIX time
    settled: bytes  #: doubles
    states: bytes  #: `state_number` of each
    counts: bytes  #: 16 bits: targets of each
    shape_of: bytes  #: 16 bits: place of its shape
    shapes: list[Shape]
    targets: str  #: of all tasks, one a line; of a task that cannot be read any more there are none
    odd: dict[int, Odd] = {}  #: by the place of the task
    absent: dict[int, int] = {}  #: by the place of the task, as versions before wrote `absents`
    absents: bytes = b""  #: 32 bits: acked subtasks of each of which a cache had nothing; empty: all are 0


class Failure(msgspec.Struct, array_like=True, frozen=True):
    """A subtask that late delivery could not do."""

    node: str
    operation: int
    target: str
    reason: str


class Change(msgspec.Struct, array_like=True, frozen=True):
    """What became of a stored task that was partial."""

    task_id: str
    at: float
    state: int  #: `state_number`; partial: it still waits for others
    failures: list[Failure]


class SettledTask(msgspec.Struct, frozen=True):
    """One task of a record."""

    id: str
    created_at: float
    settled_at: float
    state: State
    shape: Shape
    targets: list[str]
    odd: Odd | None
    absent: int


def state_number(state: str) -> int:
    """Return how a state is stored."""
    return _NUMBERS[State(state)]


def state_of_number(number: int) -> State:
    """Return a stored state."""
    return _STATES[number]


encode: Final = msgspec.msgpack.Encoder().encode
decode_changes: Final = msgspec.msgpack.Decoder(list[Change]).decode


def joined(records: Sequence[SettledTasks]) -> SettledTasks:
    """Return the tasks of several records as one, in their order."""
    shapes: dict[Shape, int] = {}
    shape_of = array("H")
    odd: dict[int, Odd] = {}
    ids: list[str] = []
    for record in records:
        first = len(ids)
        places = [shapes.setdefault(shape, len(shapes)) for shape in record.shapes]
        shape_of.extend([places[number] for number in memoryview(record.shape_of).cast("H")])
        if record.odd:
            odd.update({first + place: one for place, one in record.odd.items()})
        ids += record.ids
    return SettledTasks(
        ids,
        b"".join([record.created for record in records]),
        b"".join([record.settled for record in records]),
        b"".join([record.states for record in records]),
        b"".join([record.counts for record in records]),
        shape_of.tobytes(),
        list(shapes),
        "\n".join([record.targets for record in records if record.targets]),
        odd,
        {},
        absents_of([count for record in records for count in _absents(record)]),
    )


def _absents(record: SettledTasks) -> Sequence[int]:
    """Return of how many acked subtasks of each task a cache had nothing."""
    if record.absents:
        return array("I", record.absents)
    if not record.absent:
        return bytes(len(record.ids))
    return [record.absent.get(place, 0) for place in range(len(record.ids))]


def absents_of(counts: Sequence[int]) -> bytes:
    """Return the column `SettledTasks.absents`."""
    return array("I", counts).tobytes() if any(counts) else b""


def lines_of(text: str) -> list[str]:
    """Return the targets of a record's text."""
    return text.split("\n") if text else []


class Columns:
    """The tasks of one record, read one at a time."""

    __slots__ = ("_absents", "_ends", "_lines", "_settled", "created", "record", "shape_of")

    def __init__(self, record: SettledTasks) -> None:
        self.record = record
        self.created = array("d", record.created)
        self._settled = memoryview(record.settled).cast("d")
        self.shape_of = array("H", record.shape_of)
        self._ends = list(accumulate(array("H", record.counts)))
        self._lines: list[str] | None = None
        self._absents = _absents(record)

    def __len__(self) -> int:
        return len(self.record.ids)

    @property
    def target_count(self) -> int:
        """How many targets all tasks have."""
        return self._ends[-1] if self._ends else 0

    def places_of(self, targets: Iterable[int]) -> list[int]:
        """Return the places of the tasks that have targets, by the targets' places in the record, rising."""
        places: list[int] = []
        place = 0
        for target in targets:
            while self._ends[place] <= target:
                place += 1
            if not places or places[-1] != place:
                places.append(place)
        return places

    def wide_places(self) -> list[int]:
        """Return the places of the tasks whose targets cover others."""
        wide = {number for number, shape in enumerate(self.record.shapes) if shape.kind in WIDE}
        return [place for place, number in enumerate(self.shape_of) if number in wide]

    def shape(self, place: int) -> Shape:
        """Return the shape of the task at *place*."""
        return self.record.shapes[self.shape_of[place]]

    def settled_at(self, place: int) -> float:
        """Return when the task at *place* settled."""
        return self._settled[place]

    def state(self, place: int) -> State:
        """Return the state of the task at *place*."""
        return _STATES[self.record.states[place]]

    def targets(self, place: int) -> list[str]:
        """Return the targets of the task at *place*."""
        if self._lines is None:
            self._lines = lines_of(self.record.targets)
        return self._lines[self._ends[place - 1] if place else 0 : self._ends[place]]

    def chosen(self, places: Sequence[int]) -> SettledTasks:
        """Return the record of some of the tasks, in the order of *places*."""
        record = self.record
        counts = array("H", record.counts)
        shapes = {number: new for new, number in enumerate(dict.fromkeys(self.shape_of[at] for at in places))}
        return SettledTasks(
            [record.ids[at] for at in places],
            array("d", [self.created[at] for at in places]).tobytes(),
            array("d", [self._settled[at] for at in places]).tobytes(),
            bytes([record.states[at] for at in places]),
            array("H", [counts[at] for at in places]).tobytes(),
            array("H", [shapes[self.shape_of[at]] for at in places]).tobytes(),
            [record.shapes[number] for number in shapes],
            "\n".join(target for at in places for target in self.targets(at)),
            {new: record.odd[at] for new, at in enumerate(places) if at in record.odd},
            {},
            absents_of([self._absents[at] for at in places]),
        )

    def task(self, place: int) -> SettledTask:
        """Return the task at *place*."""
        record = self.record
        return SettledTask(
            record.ids[place],
            self.created[place],
            self._settled[place],
            self.state(place),
            self.shape(place),
            self.targets(place),
            record.odd.get(place),
            self._absents[place],
        )

    def __iter__(self) -> Iterator[SettledTask]:
        return map(self.task, range(len(self)))
