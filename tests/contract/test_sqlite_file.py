"""The database file while threads read it and it is closed."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from engine.errors import StoreError
from engine.store.sqlite.file import DatabaseFile

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
