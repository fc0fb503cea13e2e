"""release.repository.serials: a repository is known by its id, whatever its address is called."""

from pathlib import Path

import pytest

from release.errors import RepositoryError
from release.repository.serials import SerialMemory

URL = "http://127.0.0.1:8080/repository"


@pytest.mark.parametrize(
    "other", ["http://localhost:8080/repository", "HTTP://127.0.0.1:8080/repository", "/srv/repository"]
)
def test_another_address_of_a_repository_has_its_serials(tmp_path: Path, other: str) -> None:
    """A controller took a rolled-back index when the address was written otherwise."""
    SerialMemory(tmp_path, URL).remember(7, "id")
    assert SerialMemory(tmp_path, other).highest("id") == 7


def test_an_index_without_an_id_counts_by_its_address(tmp_path: Path) -> None:
    memory = SerialMemory(tmp_path, URL)
    memory.remember(7, "id")
    assert memory.highest("") == 7
    assert memory.highest("another") == 7  # at the same address: it was put there
    assert SerialMemory(tmp_path, "HTTP://127.0.0.1:8080/repository").highest("") == 7
    assert SerialMemory(tmp_path, "http://cdn.example.com/r").highest("") == 0


def test_two_repositories_do_not_meet_and_a_lower_serial_changes_nothing(tmp_path: Path) -> None:
    one, two = (SerialMemory(tmp_path, f"/srv/{name}") for name in ("one", "two"))
    one.remember(9, "1")
    two.remember(5, "2")
    one.remember(3, "1")
    assert (one.highest("1"), two.highest("2")) == (9, 5)
    assert (one.repository(), two.repository()) == ("1", "2")


def test_what_was_known_before_counts_for_an_index_that_is_read_later(tmp_path: Path) -> None:
    """Another process may see a newer one meanwhile."""
    memory = SerialMemory(tmp_path, URL)
    memory.remember(5, "id")
    known = memory.known()
    SerialMemory(tmp_path, "/other").remember(9, "id")
    assert memory.highest("id", known) == 5
    assert memory.highest("id") == 9


def test_a_damaged_file_is_no_reason_to_forget(tmp_path: Path) -> None:
    memory = SerialMemory(tmp_path, URL)
    memory.remember(5, "id")
    memory.path.write_text("{")
    with pytest.raises(RepositoryError, match=r"cannot be read .* remove it only if you trust"):
        memory.highest("id")
