"""What tells processes apart."""

import os

from engine.cluster.process_mark import process_mark


def test_a_process_has_one_mark_and_another_one_another() -> None:
    assert process_mark(os.getpid()) == process_mark(os.getpid())
    assert process_mark(os.getpid()) != process_mark(1)


def test_processes_of_one_host_share_all_but_their_start() -> None:
    mine, other = process_mark(os.getpid()), process_mark(1)
    assert mine.rpartition(":")[0] == other.rpartition(":")[0] != ""


def test_a_process_that_is_not_there_has_none() -> None:
    assert process_mark(2**22 + 1) == ""
