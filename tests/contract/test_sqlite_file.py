"""The database file while threads read it and it is closed."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from engine.errors import StoreError
from engine.store.sqlite.file import DatabaseFile
from engine.store.sqlite.store import SqliteStore
from engine.tasks.records import Batch, Delivered, Parked, Sighting

if TYPE_CHECKING:
    from pathlib import Path

_CLOSED_BESIDE_READS = """
import pathlib, sys, threading
from engine.errors import StoreError
from engine.store.sqlite.file import DatabaseFile

READ = "SELECT seq, node FROM parked WHERE node = ?"
for number in range(40):
    file = DatabaseFile(pathlib.Path(sys.argv[1]) / f"{number}.db", has_peers=False)
    file.open(is_in_use=False)
    begun = threading.Barrier(4)

    def read():
        file.query("SELECT 1")
        begun.wait()
        try:
            while True:
                file.query(READ, "edge-1")
        except StoreError:
            pass

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    begun.wait()
    threading.Event().wait(0.005)
    file.close()
    for reader in readers:
        reader.join(10)
        assert not reader.is_alive()
"""


def test_a_file_is_closed_beside_threads_that_read_it(tmp_path: Path) -> None:
    """The reads fail; in a process of its own, because SQLite can crash the one that gets this wrong."""
    ended = subprocess.run(
        [sys.executable, "-c", _CLOSED_BESIDE_READS, tmp_path], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_closed_file_is_not_read(tmp_path: Path) -> None:
    file = DatabaseFile(tmp_path / "tasks.db", has_peers=False)
    file.open(is_in_use=False)
    file.close()
    with pytest.raises(StoreError, match="closed"):
        file.query("SELECT 1")


def test_a_wall_clock_that_is_set_forward_makes_no_node_gone_for_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the process that sees it, nor in the next one."""
    path, wall = tmp_path / "tasks-0.db", time.time
    gone, seen = Sighting("old", "", is_gone=True), Sighting("edge-1", "edge")
    with contextlib.closing(SqliteStore(path)) as store:
        store.open()
        store.commit(Batch(sightings=[gone]))
        monkeypatch.setattr(time, "time", lambda: wall() + 86400)
        assert store.last_seen()["old"].ago_s < 60
        store.commit(Batch(sightings=[gone, seen]))
    with contextlib.closing(SqliteStore(path)) as store:
        store.open()
        assert store.last_seen()["old"].ago_s < 60
        store.commit(Batch(sightings=[gone, seen]))
    monkeypatch.setattr(time, "time", lambda: wall() + 86400 + 7200)
    with contextlib.closing(SqliteStore(path)) as store:
        store.open()
        assert 7200 <= store.last_seen()["old"].ago_s < 7260, "no engine ran: there is no other clock"


def test_a_file_of_a_version_before_that_is_being_written_says_so_and_opens_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a reload the version before writes to it."""
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path, **more: connect(path, **{**more, "timeout": 0.01}))
    path = tmp_path / "tasks-0.db"
    file = DatabaseFile(path, has_peers=True)
    file.open(is_in_use=False)
    file.close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.executescript("DROP INDEX parked_parted; ALTER TABLE parked DROP COLUMN is_parted")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="database is locked"):
            file.open(is_in_use=True)
        other.execute("ROLLBACK")
        file.open(is_in_use=True)
        assert file.query("SELECT is_parted FROM parked") == []
    file.close()


def test_a_row_whose_task_is_in_the_memory_of_another_worker_stays(tmp_path: Path) -> None:
    """That task has no document yet: nothing could be told of what became of the row."""
    store = SqliteStore(tmp_path / "tasks-0.db")
    store.open()
    store.commit(Batch(parked=[Parked("n", 1, "http://a/", "t", "", 1.0)]))
    [row] = store.oldest_parked("n", 1)
    assert store.commit(Batch(delivered=[Delivered(row, "edge", 2.0)])).rows_left == 1
    assert store.oldest_parked("n", 1) == [row]
    assert store.commit(Batch(delivered=[Delivered(row, "edge", 2.0, is_told=True)])).rows_left == 0
    assert store.oldest_parked("n", 1) == []
    store.close()


@pytest.mark.parametrize("page_bytes", [4096, 8192])
def test_a_file_keeps_its_pages_and_its_log_the_same_bound(tmp_path: Path, page_bytes: int) -> None:
    """One that a version before made has pages of 4096 bytes: it is gone on with."""
    path = tmp_path / "tasks-0.db"
    if page_bytes != 8192:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as made:
            made.execute(f"PRAGMA page_size = {page_bytes}")
            made.execute("PRAGMA journal_mode = WAL")
    for number in range(2):
        store = SqliteStore(path)
        store.open()
        store.commit(Batch(documents={f"t-{number}": b'{"state":"done","updated_at":1}'}))
        assert store.count()["settled"] == number + 1
        store.close()
    file = DatabaseFile(path, has_peers=False)
    with contextlib.closing(file.connect()) as connection:
        assert connection.execute("PRAGMA page_size").fetchall() == [(page_bytes,)]
        assert connection.execute("PRAGMA wal_autocheckpoint").fetchall() == [(16_384_000 // page_bytes,)]
