"""What tells processes apart."""

import os

from engine.cluster.process_mark import has_ended, process_mark


def test_a_process_has_one_mark_and_another_one_another() -> None:
    assert process_mark(os.getpid()) == process_mark(os.getpid())
    assert process_mark(os.getpid()) != process_mark(1)


def test_processes_of_one_host_share_all_but_their_start() -> None:
    mine, other = process_mark(os.getpid()), process_mark(1)
    assert mine.rpartition(":")[0] == other.rpartition(":")[0] != ""


def test_a_process_that_is_not_there_has_none() -> None:
    assert process_mark(2**22 + 1) == ""


def test_a_process_has_ended_when_another_one_or_none_has_its_number() -> None:
    mine = process_mark(os.getpid())
    place = mine.rpartition(":")[0]
    assert not has_ended(os.getpid(), mine)
    assert has_ended(os.getpid(), f"{place}:1")
    assert has_ended(2**22 + 1, f"{place}:1")


def test_of_a_process_of_another_machine_or_without_a_mark_nothing_is_known() -> None:
    assert not has_ended(2**22 + 1, "another-boot/pid:[1]:77")
    assert not has_ended(2**22 + 1, "")
