"""release.hosts.journal: a history that only grows, and which runs are under way."""

import os
from pathlib import Path

import msgspec
import pytest

from release.errors import ReleaseError
from release.hosts import journal
from release.hosts.journal import Journal


def test_the_history_gives_back_what_was_written(tmp_path: Path) -> None:
    """The oldest first, each with its time; only the last ones when asked."""
    memory = Journal(tmp_path / "state")
    assert memory.read() == []
    for number in range(3):
        memory.append(phase="begin", number=number)
    assert [entry["number"] for entry in memory.read()] == [0, 1, 2]
    assert [entry["number"] for entry in memory.read(2)] == [1, 2]
    assert memory.read()[0]["at"] > 1_500_000_000
    assert memory.path.stat().st_mode & 0o777 == 0o600


def test_half_a_line_of_a_killed_run_spoils_nothing(tmp_path: Path) -> None:
    """Neither the lines before nor the next one."""
    memory = Journal(tmp_path)
    memory.append(number=1)
    with memory.path.open("ab") as file:
        file.write(b'{"at": 1, "numb')
    memory.append(number=2)
    assert [entry["number"] for entry in memory.read()] == [1, 2]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Before anything is begun."""
    (tmp_path / "state").write_text("in the way")
    with pytest.raises(ReleaseError, match=r"state/history\.jsonl: cannot be written"):
        Journal(tmp_path / "state").append(number=1)


def test_a_run_under_way_is_known_and_not_abandoned(tmp_path: Path) -> None:
    """Its note is for its owner's eyes: it holds the token."""
    memory = Journal(tmp_path)
    run = journal.new_run("deploy", version="2.0", root="/srv/p", hosts=["a", "b"])
    memory.begin(run)
    assert memory.runs() == [run]
    assert memory.abandoned("/srv/p", ["a"]) == []
    assert (tmp_path / "runs" / f"{run.deploy_id}.json").stat().st_mode & 0o777 == 0o600
    memory.end(run.deploy_id)
    assert memory.runs() == []


def test_a_reused_process_number_is_not_taken_for_the_run(tmp_path: Path) -> None:
    """The start of the process tells them apart."""
    run = journal.new_run("deploy", version="2.0", root="/srv/p", hosts=["a"])
    assert run.is_alive
    assert run.pid == os.getpid()
    assert not msgspec.structs.replace(run, started="another boot:1").is_alive
    assert not msgspec.structs.replace(run, pid=2**22 + 1).is_alive


def test_a_lock_by_hand_has_no_process_and_is_never_abandoned(tmp_path: Path) -> None:
    """Only `unlock` ends it."""
    memory = Journal(tmp_path)
    memory.begin(journal.new_run("lock", version="fair", root="/srv/p", hosts=["a"], is_manual=True))
    assert memory.abandoned("/srv/p", ["a"]) == []


def test_a_lock_says_who_and_why() -> None:
    """With the id that the histories have."""
    run = journal.new_run("deploy", version="2.0", root="/srv/p", hosts=["a"])
    assert run.why == f"deploy 2.0 ({run.deploy_id})"
    assert run.who
    assert run.where


@pytest.mark.parametrize(
    ("other", "is_ended"),
    [
        ({"pid": 2**22 + 1}, True),
        ({"started": "another boot:1"}, True),
        ({"pid": 2**22 + 1, "machine": "another"}, False),
        ({"pid": 2**22 + 1, "where": "another"}, False),
        ({"pid": 2**22 + 1, "space": "pid:[another]"}, False),
        ({"started": "another boot:1", "machine": ""}, False),
        ({"pid": 2**22 + 1, "machine": "", "space": ""}, True),
        ({}, False),
    ],
)
def test_a_run_of_another_machine_with_the_same_home_is_not_taken_for_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: dict[str, object], is_ended: bool
) -> None:
    """Its process number means nothing here; its live deploy was unlocked."""
    monkeypatch.setattr(journal, "_machine", lambda: "this one")
    memory = Journal(tmp_path)
    run = journal.new_run("deploy", version="2.0", root="/srv/p", hosts=["a"])
    memory.begin(msgspec.structs.replace(run, **other))
    assert bool(memory.abandoned("/srv/p", ["a"])) is is_ended
