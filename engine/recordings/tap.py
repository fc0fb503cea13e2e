"""Where requests and their answers are seen while somebody records them.

Nothing is encoded or written here: what was seen is put into the buffer of each recording, which drops what
it has no room for and counts that. Belongs to the loop's thread.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from time import time_ns as now_ns
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from engine.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

RECORDINGS_MAX: Final = 2  #: at once, of one worker
WAITING_MAX_BYTES: Final = 64 * 1024 * 1024  #: of one recording's exchanges that wait to be written
BATCH_BYTES: Final = 256 * 1024  #: of exchanges that are written together; a larger one is a batch alone
OVERHEAD_BYTES: Final = 1000  #: of an exchange, beside its bodies: in memory, and for what it is to pack it
_SPREAD: Final = 2_654_435_761  #: numbers in a row come out spread evenly over 32 bits (Knuth)
_MASK: Final = 0xFFFF_FFFF
_COLUMNS: Final = 5


class Answer(Protocol):
    """An answer as an exchange has it; see `engine.intake.replies.Reply`."""

    @property
    def status(self) -> int:
        """Of HTTP."""

    @property
    def body(self) -> bytes:
        """As it was sent."""

    @property
    def content_type(self) -> str:
        """Of the body."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Further fields."""


A = TypeVar("A", bound=Answer)


class Batch:
    """Exchanges that are written together: no object for each of them.

    Attributes:
        flat: of each exchange, in a row, what the properties are columns of.
        size: bytes that they take, about.
    """

    __slots__ = ("flat", "size")

    def __init__(self) -> None:
        self.flat: list[Any] = []
        self.size = 0

    def __len__(self) -> int:
        return len(self.flat) // _COLUMNS

    def singles(self) -> Iterator[Batch]:
        """Yield a batch of each exchange alone."""
        for at in range(0, len(self.flat), _COLUMNS):
            single = Batch()
            single.flat = self.flat[at : at + _COLUMNS]
            yield single

    @property
    def heads(self) -> list[bytes]:
        """Of the requests, each from its first line to the empty line."""
        return self.flat[0::_COLUMNS]

    @property
    def bodies(self) -> list[bytes]:
        """Of the requests."""
        return self.flat[1::_COLUMNS]

    @property
    def began_ns(self) -> list[int]:
        """When the requests were there, UNIX nanoseconds."""
        return self.flat[2::_COLUMNS]

    @property
    def latencies_ns(self) -> list[int]:
        """From then to their answers."""
        return self.flat[3::_COLUMNS]

    @property
    def answers(self) -> list[Answer]:
        """What was said."""
        return self.flat[4::_COLUMNS]


class Recording:
    """What one recording has still to write.

    Args:
        share: of all requests that are recorded, above 0 and up to 1.
        waiting_max_bytes: of exchanges that may wait.

    Attributes:
        dropped: exchanges for which there was no room.
        is_all: every request is recorded.
        is_closed: nothing more is added.
    """

    def __init__(self, share: float = 1.0, *, waiting_max_bytes: int = WAITING_MAX_BYTES) -> None:
        self.dropped = 0
        self.is_closed = False
        self.is_all = share >= 1
        self._below = round(share * (_MASK + 1))
        self._whole: deque[Batch] = deque()
        self._open = Batch()
        self._bytes_left = waiting_max_bytes  # the open batch not taken off
        self._open_max = min(BATCH_BYTES, waiting_max_bytes)  # bytes of the open batch

    def wants(self, number: int) -> bool:
        """Tell whether a request is among those that are recorded."""
        return (number * _SPREAD & _MASK) < self._below

    def answered(self, answer: Callable[[A], None], head: bytes, body: bytes, began_ns: int, said: A) -> None:
        """Hand an answer on, then take the exchange, or count it as dropped; see `Tap.saw`."""
        answer(said)
        batch = self._open
        size = batch.size + len(head) + len(body) + len(said.body) + OVERHEAD_BYTES
        if size > self._open_max:
            size -= batch.size
            batch = self._next_batch()
            if size > self._bytes_left or self.is_closed:
                self.dropped += not self.is_closed
                return
        batch.size = size
        batch.flat += (head, body, began_ns, now_ns() - began_ns, said)

    def _next_batch(self) -> Batch:
        """Begin another batch, unless nothing is in the open one, and return it."""
        batch = self._open
        if batch.size:
            self._bytes_left -= batch.size
            self._whole.append(batch)
            batch = self._open = Batch()
        self._measure()
        return batch

    def _measure(self) -> None:
        """Note how large the open batch may become."""
        self._open_max = 0 if self.is_closed else min(BATCH_BYTES, self._bytes_left)

    def close(self) -> None:
        """Add nothing more. Safe to call again."""
        self.is_closed = True
        self._measure()

    def take(self) -> Batch | None:
        """Return the next exchanges; they count as waiting until `written`. None: there are none."""
        if not self._whole:
            self._next_batch()
        return self._whole.popleft() if self._whole else None

    def written(self, batch: Batch) -> None:
        """Have the room of a batch for others."""
        self._bytes_left += batch.size
        self._measure()


class Tap:
    """Shows what passes to those who record; with nobody there it costs one look at `recordings`.

    Attributes:
        recordings: those that go on.
    """

    def __init__(self) -> None:
        self.recordings: tuple[Recording, ...] = ()
        self._count = 0

    def begin(self, recording: Recording) -> None:
        """Have *recording* see what passes.

        Raises:
            RequestError: 409, others record already.
        """
        if len(self.recordings) >= RECORDINGS_MAX:
            raise RequestError(
                409, f"{RECORDINGS_MAX} recordings are being made already; end one of them first"
            )
        self.recordings += (recording,)

    def end(self, recording: Recording) -> None:
        """Have it see no more. Safe to call again."""
        recording.close()
        self.recordings = tuple(other for other in self.recordings if other is not recording)

    def watch(self, head: bytes, body: bytes, answer: Callable[[A], None]) -> Callable[[A], None]:
        """Return what takes the answer of a request in place of *answer*, and hands it on."""
        self._count = number = self._count + 1
        for recording in self.recordings:
            if recording.is_all or recording.wants(number):
                answer = partial(recording.answered, answer, head, body, now_ns())
        return answer

    def saw(self, head: bytes, body: bytes, said: Answer, began_ns: int) -> None:
        """Take an exchange that is over.

        Args:
            head: of the request, from its first line to the empty line.
            body: of the request.
            said: its answer.
            began_ns: when the request was there, UNIX nanoseconds.
        """
        self._count += 1
        for recording in self.recordings:
            if recording.is_all or recording.wants(self._count):
                recording.answered(_ignore, head, body, began_ns, said)


def _ignore(_said: object) -> None:
    """The client has its answer."""
