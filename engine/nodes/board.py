"""Prefetches under way in all processes of an engine, in memory that they share: a file in the data folder.

Each worker writes the prefetches that it sends, before it sends them, and looks at those of others after its
purges were acked. So a prefetch whose request was at a cache before a purge is seen by whoever sent that
purge; nobody is asked, and nobody waits. What a process that was killed had under way is still there
afterwards, for the process that goes on with its tasks.

A process has a *region* of the file for itself, held by a lock that goes with the process. A region is a ring
of records, so those that have ended can still be seen for a while; a number that grows with each change
(odd: a change is being made) tells readers what is new, and one word of the file whether anything is. What
does not fit is *unknown*: until then everything counts as under way. Times are `time.monotonic`'s, one clock
for all processes until the machine is started again; what was under way before that counts from then on.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from zlib import crc32

from engine.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PROCESSES_PER_SLOT: Final = 8
"""A hot reload has two workers in a slot; one that was killed leaves its region until it is taken over."""
RECORDS: Final = 256  #: of a region
URL_BYTES_MAX: Final = 1000
_MAGIC: Final = b"purgeline underway 1\n"
_BOOT_AT: Final = 64
_WORD_AT: Final = 256
_REGIONS_MAX: Final = 1024
_BUSY_AT: Final = 4096
_UNKNOWN_AT: Final = _BUSY_AT + 8 * _REGIONS_MAX
_VERSION_AT: Final = _UNKNOWN_AT + 8 * _REGIONS_MAX
_DATA_AT: Final = _VERSION_AT + 8 * _REGIONS_MAX
_COLUMN_BYTES: Final = 8 * RECORDS
_REGION_BYTES: Final = 5 * _COLUMN_BYTES + RECORDS * URL_BYTES_MAX
_READS_MAX: Final = 100  #: of a region that is being changed; a process may have been killed in the middle


class Record(NamedTuple):
    """One prefetch of another process, or of one before."""

    region: int
    place: int  #: in the region
    node: int  #: CRC-32 of its name
    url: str  #: without scheme
    task_ids: Sequence[str]  #: whose it is
    began_at: float
    ends_at: float  #: when it ended; infinity: it is under way
    expires_at: float  #: it counts as ended from then on, whatever became of it

    @property
    def number(self) -> int:
        """What `Board.end` calls it by."""
        return self.region * RECORDS + self.place


class _Region:
    """The columns of one region."""

    def __init__(self, memory: mmap.mmap, number: int) -> None:
        at = _DATA_AT + number * _REGION_BYTES
        view = memoryview(memory)
        parts = [view[at + n * _COLUMN_BYTES : at + (n + 1) * _COLUMN_BYTES] for n in range(5)]
        self.began, self.ended, self.expires = (part.cast("d") for part in parts[:3])
        self.nodes, self.lengths = (part.cast("Q") for part in parts[3:])
        self.urls = view[at + 5 * _COLUMN_BYTES : at + _REGION_BYTES]


class Board:
    """The shared file, seen by one process.

    Args:
        path: of the file; its folder is made.
        slot: of this worker.
        slots: how many there are.
        now: `time.monotonic`.
        max_s: how long what was under way counts after the machine was started again.
    """

    def __init__(self, path: Path, slot: int, slots: int, *, now: Callable[[], float], max_s: float) -> None:
        self._path = path
        self._slot = slot
        self._slots = slots
        self._now = now
        self._max_s = max_s
        self.word = memoryview(bytearray(8)).cast("Q")  #: differs after each change by whomever
        self._token = int.from_bytes(os.urandom(7))
        self._descriptor = -1
        self._mine: set[int] = set()
        self._region = 0  # that this process writes new records to
        self._next = 0
        self._active: dict[int, float] = {}  # index of what is under way here → when it expires
        self._left: list[Record] = []  # of the process that had this region before

    def __repr__(self) -> str:
        return f"<Board {self._path} [region {self._region}, {len(self._active)} under way]>"

    def open(self) -> None:
        """Map the file, and take a region.

        Raises:
            StoreError: it cannot be made, or has no free region.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            regions = max(PROCESSES_PER_SLOT * self._slots, self._region_count())
            size = _DATA_AT + regions * _REGION_BYTES
            self._set_lock(fcntl.F_OFD_SETLKW, fcntl.F_WRLCK, 0)
            if os.fstat(self._descriptor).st_size < size:
                os.ftruncate(self._descriptor, size)
            os.posix_fallocate(self._descriptor, 0, _DATA_AT)
            self._map(size, regions)
            self._begin_anew_after_a_boot()
            self._set_lock(fcntl.F_OFD_SETLK, fcntl.F_UNLCK, 0)
            self._take_region()
        except (OSError, ValueError) as exc:
            raise StoreError(f"{self._path}: {exc}") from exc

    def _take_region(self) -> None:
        """Take a region of the slot, its disk space too: memory without it would end the process."""
        first = self._slot * PROCESSES_PER_SLOT
        for region in range(first, first + PROCESSES_PER_SLOT):
            if self._lock(region):
                os.posix_fallocate(self._descriptor, _DATA_AT + region * _REGION_BYTES, _REGION_BYTES)
                self._mine.add(region)
                self._region = region
                self._left = [record for record in self._read(region)[1] if record.ends_at == inf]
                self._active = {record.place: record.expires_at for record in self._left}
                self._find_others()
                return
        raise StoreError(f"{self._path}: {PROCESSES_PER_SLOT} processes of slot {self._slot} use it already")

    def _region_count(self) -> int:
        return max(0, os.fstat(self._descriptor).st_size - _DATA_AT) // _REGION_BYTES

    def _map(self, size: int, regions: int) -> None:
        self._memory = memory = mmap.mmap(self._descriptor, size)
        view = memoryview(memory)
        self.word = view[_WORD_AT : _WORD_AT + 8].cast("Q")
        self._busy = view[_BUSY_AT : _BUSY_AT + 8 * regions].cast("d")
        self._unknown = view[_UNKNOWN_AT : _UNKNOWN_AT + 8 * regions].cast("d")
        self._versions = view[_VERSION_AT : _VERSION_AT + 8 * regions].cast("Q")
        self._regions = [_Region(memory, number) for number in range(regions)]

    def _begin_anew_after_a_boot(self) -> None:
        boot = b""
        with suppress(OSError):
            boot = Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
        head = _MAGIC.ljust(_BOOT_AT, b"\0") + boot.ljust(64, b"\0")
        if self._memory[: len(head)] == head:
            return
        expires_at = self._now() + self._max_s
        for number, region in enumerate(self._regions):
            for index in range(RECORDS):
                if region.ended[index]:
                    is_under_way = region.ended[index] == inf
                    region.ended[index] = inf if is_under_way else 0.0
                    region.began[index], region.expires[index] = 0.0, expires_at
            is_busy = inf in list(region.ended)
            self._busy[number] = expires_at if is_busy else 0.0
            self._unknown[number] = 0.0
        self._memory[: len(head)] = head

    def _lock(self, region: int) -> bool:
        """Take the lock of a region: it is ours until this process ends."""
        try:
            self._set_lock(fcntl.F_OFD_SETLK, fcntl.F_WRLCK, _DATA_AT + region * _REGION_BYTES)
        except OSError:
            return False
        return True

    def _set_lock(self, command: int, kind: int, at: int) -> None:
        """Lock or unlock a byte for this opening of the file, not for all of its process."""
        fcntl.fcntl(self._descriptor, command, struct.pack("hhqqi4x", kind, os.SEEK_SET, at, 1, 0))

    def _find_others(self) -> None:
        self._others = [region for region in range(len(self._regions)) if region not in self._mine]

    def close(self) -> None:
        """Let the next process have the region; what is under way stays written down."""
        if self._descriptor >= 0:
            for region in self._mine:
                self._set_lock(fcntl.F_OFD_SETLK, fcntl.F_UNLCK, _DATA_AT + region * _REGION_BYTES)
            os.close(self._descriptor)
            self._descriptor = -1

    # Own prefetches

    def begin(self, node: str, url: str, task_ids: Sequence[str], *, expires_at: float) -> int:
        """Write down a prefetch that is about to be sent; return what to call it by in `end`."""
        text = f"{url} {' '.join(task_ids)}".encode()
        if len(text) > URL_BYTES_MAX:
            text = f"{url} ".encode()
        index = self._free() if len(text) <= URL_BYTES_MAX else -1
        region = self._regions[self._region]
        self._change(self._region)
        if index < 0:
            self._unknown[self._region] = max(self._unknown[self._region], expires_at)
        else:
            self._unknown[self._region] = max(self._unknown[self._region], region.ended[index])
            region.began[index], region.expires[index] = self._now(), expires_at
            region.nodes[index], region.lengths[index] = crc32(node.encode()), len(text)
            region.urls[index * URL_BYTES_MAX : index * URL_BYTES_MAX + len(text)] = text
            region.ended[index] = inf
            self._active[index] = expires_at
        self._busy[self._region] = max(self._busy[self._region], expires_at)
        self._change(self._region)
        return self._region * RECORDS + index if index >= 0 else -1

    def end(self, record: int) -> None:
        """A prefetch has ended."""
        if record < 0:
            return  # one that did not fit: whether others like it are under way is not known
        now = self._now()
        number, index = divmod(record, RECORDS)
        region = self._regions[number]
        self._change(number)
        region.ended[index] = now
        if number == self._region:
            self._active.pop(index, None)
            left = list(self._active.values())
        else:
            left = [region.expires[index] for index in range(RECORDS) if region.ended[index] == inf]
        self._busy[number] = max(now, self._unknown[number], *left)
        self._change(number)

    def _free(self) -> int:
        """Return the record that was used longest ago and has ended; -1: all are under way."""
        for _ in range(RECORDS):
            index = self._next
            self._next = (index + 1) % RECORDS
            if index not in self._active:
                return index
        return -1

    def _change(self, region: int) -> None:
        self._versions[region] += 1
        self._token += 1  # from a number that no other process began with
        self.word[0] = self._token

    # Those of other processes

    def is_other(self, region: int) -> bool:
        """Tell whether another process writes to a region, or nobody."""
        return region not in self._mine

    def unknown_until(self) -> Iterator[tuple[int, float]]:
        """Yield each other region, and until when anything may have been under way there."""
        for region in self._others:
            yield region, self._unknown[region]

    def changed(self, seen: dict[int, int]) -> Iterator[tuple[int, list[Record]]]:
        """Yield the records of other regions that changed, and note their versions in *seen*."""
        for region in self._others:
            if self._versions[region] != seen.get(region, 0):
                version, records = self._read(region)
                seen[region] = version
                yield region, records

    def take_left(self) -> list[Record]:
        """Take over what processes of this slot left under way that have gone.

        With fewer slots than before, the regions of slots that are no more go to those that are.
        """
        left, self._left = self._left, []
        for region in range(len(self._regions)):
            is_ours = region // PROCESSES_PER_SLOT % self._slots == self._slot
            if is_ours and region not in self._mine and self._busy[region] and self._lock(region):
                self._mine.add(region)
                left += [record for record in self._read(region)[1] if record.ends_at == inf]
        self._find_others()
        return left

    def _read(self, number: int) -> tuple[int, list[Record]]:
        reads = 0
        while True:
            version = self._versions[number]
            records = self._records(number)
            reads += 1
            if reads == _READS_MAX or (self._versions[number] == version and version % 2 == 0):
                return version, records

    def _records(self, number: int) -> list[Record]:
        region = self._regions[number]
        ended = list(region.ended)
        records = []
        for index, ended_at in enumerate(ended):
            if ended_at:
                at = index * URL_BYTES_MAX
                url = bytes(region.urls[at : at + min(region.lengths[index], URL_BYTES_MAX)])
                node, began_at, expires_at = region.nodes[index], region.began[index], region.expires[index]
                text, *task_ids = url.decode(errors="replace").split(" ")
                record = Record(number, index, node, text, task_ids, began_at, ended_at, expires_at)
                records.append(record)
        return records
