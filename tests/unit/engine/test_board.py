"""The file in which processes write down their prefetches: seen by others, kept over a crash."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import pytest

from engine.errors import StoreError
from engine.nodes.board import PROCESSES_PER_SLOT, RECORDS, URL_BYTES_MAX, Board
from tests.unit.engine.test_underway import Clock, Place

if TYPE_CHECKING:
    from pathlib import Path

    from engine.nodes.board import Record

URL = "a.com/1"


class Processes:
    """Boards of one file, on a clock that stands still until it is moved."""

    def __init__(self, folder: Path, slots: int = 2) -> None:
        self.clock = Clock()
        self.path = folder / "underway"
        self.slots = slots

    def board(self, slot: int) -> Board:
        """Return the board of a new process, not open yet."""
        return Board(self.path, slot, self.slots, now=self.clock.now, max_s=60)

    def place(self, name: str, *parents: str) -> Place:
        """Return a node."""
        return Place(self.clock, *parents, name=name)

    def start(self, slot: int = 0) -> Board:
        """Return the board of a new process."""
        board = self.board(slot)
        board.open()
        return board


def seen_by(board: Board) -> list[Record]:
    return [record for _, records in board.changed({}) for record in records]


def test_another_process_sees_what_is_under_way_and_when_it_ended(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    one, two = processes.start(0), processes.start(1)
    before = two.word[0]
    number = one.begin("edge-1", URL, ["t1"], expires_at=processes.clock.s + 60)
    (record,) = seen_by(two)
    assert (record.url, record.task_ids, record.ends_at) == (URL, ["t1"], inf)
    assert two.word[0] != before
    before = two.word[0]
    processes.clock.go(1)
    one.end(number)
    (record,) = seen_by(two)
    assert record.ends_at == processes.clock.s
    assert two.word[0] != before


def test_only_what_changed_is_read(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    one, two = processes.start(0), processes.start(1)
    seen: dict[int, int] = {}
    one.begin("edge-1", URL, ["t1"], expires_at=2000)
    assert len(list(two.changed(seen))) == 1
    assert not list(two.changed(seen))


def test_what_a_process_left_is_taken_over_by_the_next_of_its_slot(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    one, other = processes.start(0), processes.start(1)
    number = one.begin("edge-1", URL, ["t1"], expires_at=2000)
    assert processes.start(1).take_left() == []
    one.close()  # or killed: the lock goes, what is written stays
    next_one = processes.start(0)
    (left,) = next_one.take_left()
    assert (left.url, left.expires_at, left.number) == (URL, 2000, number)
    assert next_one.take_left() == []
    next_one.end(left.number)
    (record,) = seen_by(other)
    assert record.ends_at == processes.clock.s


def test_a_worker_takes_over_from_one_that_goes_after_it_began(tmp_path: Path) -> None:
    """A hot reload: both have the slot for a while."""
    processes = Processes(tmp_path)
    old = processes.start(0)
    new = processes.start(0)
    old.begin("edge-1", URL, ["t1"], expires_at=2000)
    assert new.take_left() == []
    assert [record.url for record in seen_by(new)] == [URL]
    old.close()
    assert [record.url for record in new.take_left()] == [URL]


def test_with_fewer_slots_nothing_is_left_lying(tmp_path: Path) -> None:
    processes = Processes(tmp_path, slots=4)
    for slot in range(4):
        board = processes.start(slot)
        board.begin("edge-1", f"a.com/{slot}", ["t1"], expires_at=2000)
        board.close()
    processes.slots = 1
    left = processes.start(0).take_left()
    assert sorted(record.url for record in left) == [f"a.com/{slot}" for slot in range(4)]


def test_what_does_not_fit_makes_everything_unknown(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    one, two = processes.start(0), processes.start(1)
    assert max(until for _, until in two.unknown_until()) == 0
    one.begin("edge-1", "a.com/" + "x" * URL_BYTES_MAX, ["t1"], expires_at=1060)
    assert max(until for _, until in two.unknown_until()) == 1060
    assert seen_by(two) == []


def test_what_is_written_over_is_unknown_until_its_end(tmp_path: Path) -> None:
    """As many prefetches as that between a purge and its answer: all count as beside it."""
    processes = Processes(tmp_path)
    one, two = processes.start(0), processes.start(1)
    for number in range(RECORDS + 1):
        processes.clock.s += 1
        one.end(one.begin("edge-1", f"a.com/{number}", ["t1"], expires_at=9000))
    assert max(until for _, until in two.unknown_until()) == 1001


def test_records_under_way_are_never_written_over(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    one, two = processes.start(0), processes.start(1)
    one.begin("edge-1", URL, ["t1"], expires_at=9000)
    for number in range(RECORDS + 5):
        one.begin("edge-1", f"a.com/x{number}", ["t1"], expires_at=5000)
    assert URL in {record.url for record in seen_by(two)}
    assert max(until for _, until in two.unknown_until()) == 5000


def test_after_the_machine_was_started_again_what_was_under_way_counts_from_then(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    one = processes.start(0)
    one.begin("edge-1", URL, ["t1"], expires_at=2000)
    one.end(one.begin("edge-1", "a.com/2", ["t1"], expires_at=2000))
    one.close()
    data = bytearray(processes.path.read_bytes())
    data[64:68] = b"ours"
    processes.path.write_bytes(data)
    processes.clock.s = 5
    (left,) = processes.start(0).take_left()
    assert (left.url, left.expires_at) == (URL, 65)


def test_more_processes_than_a_slot_has_room_for_are_refused(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    boards = [processes.start(0) for _ in range(PROCESSES_PER_SLOT)]
    with pytest.raises(StoreError, match="processes of slot 0 use it already"):
        processes.start(0)
    boards[0].close()
    processes.start(0)


def test_a_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "underway").mkdir()
    with pytest.raises(StoreError, match="underway: "):
        Processes(tmp_path).start(0)
