"""Where requests and their answers are seen while somebody records them.

Nothing is encoded or written here: what was seen is put into the buffer of each recording, which drops what
it has no room for and counts that. Belongs to the loop's thread.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from engine.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RECORDINGS_MAX: Final = 2  #: at once, of one worker
WAITING_MAX: Final = 50_000  #: exchanges of one recording that wait to be written
WAITING_MAX_BYTES: Final = 64 * 1024 * 1024
_BATCH_BYTES: Final = 1024 * 1024
_OVERHEAD_BYTES: Final = 400  #: of an exchange in memory, beside its bodies
_SPREAD: Final = 2_654_435_761  #: numbers in a row come out spread evenly over 32 bits (Knuth)
_MASK: Final = 0xFFFF_FFFF


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


class Exchange:
    """A request, and its answer once it has one.

    Args:
        tap: shows it when it is answered.
        number: of the request, in this worker.
        head: of the request, from its first line to the empty line.
        body: of the request.
        on_answer: takes the answer before the recordings do.

    Attributes:
        began_ns: when the request was there, UNIX nanoseconds.
        latency_ns: from then to the answer.
        answer: none before it is called with one.
        size: bytes that it takes, about.
    """

    __slots__ = ("_on_answer", "_tap", "answer", "began_ns", "body", "head", "latency_ns", "number", "size")

    def __init__(
        self, tap: Tap, number: int, head: bytes, body: bytes, on_answer: Callable[[Any], None]
    ) -> None:
        self._tap = tap
        self._on_answer = on_answer
        self.number = number
        self.head = head
        self.body = body
        self.latency_ns = 0
        self.answer: Answer
        self.began_ns = time.time_ns()

    def __call__(self, said: Answer) -> None:
        """Take the answer."""
        self._on_answer(said)
        self._on_answer = _ignore  # a connection may go while this waits to be written
        self.latency_ns = time.time_ns() - self.began_ns
        self.answer = said
        self.size = len(self.head) + len(self.body) + len(said.body) + _OVERHEAD_BYTES
        for recording in self._tap.recordings:
            if recording.is_all or recording.wants(self.number):
                recording.add(self)


class Recording:
    """What one recording has still to write.

    Args:
        share: of all requests that are recorded, above 0 and up to 1.
        waiting_max: exchanges that may wait.
        waiting_max_bytes: bytes of these.

    Attributes:
        dropped: exchanges for which there was no room.
        is_all: every request is recorded.
        is_closed: nothing more is added.
    """

    def __init__(
        self,
        share: float = 1.0,
        *,
        waiting_max: int = WAITING_MAX,
        waiting_max_bytes: int = WAITING_MAX_BYTES,
    ) -> None:
        self.dropped = 0
        self.is_closed = False
        self.is_all = share >= 1
        self._below = round(share * (_MASK + 1))
        self._waiting_max = waiting_max
        self._bytes_left = waiting_max_bytes
        self._waiting: deque[Exchange] = deque()

    def wants(self, number: int) -> bool:
        """Tell whether a request is among those that are recorded."""
        return (number * _SPREAD & _MASK) < self._below

    def add(self, exchange: Exchange) -> None:
        """Take an exchange, or count it as dropped."""
        size = exchange.size
        if self.is_closed or len(self._waiting) >= self._waiting_max or size > self._bytes_left:
            self.dropped += 1
            return
        self._bytes_left -= size
        self._waiting.append(exchange)

    def take(self) -> list[Exchange]:
        """Return the next exchanges, about a MiB; they count as waiting until `written`."""
        waiting = self._waiting
        batch: list[Exchange] = []
        size = 0
        while waiting and size < _BATCH_BYTES:
            exchange = waiting.popleft()
            size += exchange.size
            batch.append(exchange)
        return batch

    def written(self, batch: list[Exchange]) -> None:
        """Have the room of a batch for others."""
        self._bytes_left += sum([exchange.size for exchange in batch])


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
        recording.is_closed = True
        self.recordings = tuple(other for other in self.recordings if other is not recording)

    def watch(self, head: bytes, body: bytes, answer: Callable[[A], None]) -> Callable[[A], None]:
        """Return what takes the answer of a request in place of *answer*, and hands it on."""
        self._count += 1
        number = self._count
        for recording in self.recordings:
            if recording.is_all or recording.wants(number):
                return Exchange(self, number, head, body, answer)
        return answer

    def saw(self, head: bytes, body: bytes, said: Answer, began_ns: int) -> None:
        """Take an exchange that is over."""
        self._count += 1
        exchange = Exchange(self, self._count, head, body, _ignore)
        exchange.began_ns = began_ns
        exchange(said)


def _ignore(_said: object) -> None:
    """The client has its answer."""
