"""release.agent.package: a folder named by its files, whole or not there at all."""

import hashlib
import io
import json
from pathlib import Path

import pytest

from release.agent import package

FILES = {"__main__.py": b"import sys\n", "other.py": b"", "é.py": "é\n".encode()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_digest_is_that_of_sha256sum_of_all_files() -> None:
    """``sha256sum * | sha256sum`` in the folder."""
    lines = "".join(f"{hashlib.sha256(FILES[name]).hexdigest()}  {name}\n" for name in sorted(FILES))
    assert package.digest_of(FILES) == hashlib.sha256(lines.encode()).hexdigest()
    assert package.digest_of(dict(reversed(FILES.items()))) == package.digest_of(FILES)


@pytest.mark.parametrize(
    "other", [{**FILES, "more.py": b""}, {"__main__.py": b"import sys\n"}, {**FILES, "other.py": b"\n"}]
)
def test_other_files_have_another_digest(other: dict[str, bytes]) -> None:
    assert package.digest_of(other) != package.digest_of(FILES)


def test_contents_are_the_modules_without_their_bytecode(tmp_path: Path) -> None:
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/b.pyc").write_bytes(b"")
    (tmp_path / "notes.txt").write_bytes(b"")
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    assert package.contents(tmp_path) == FILES


def test_what_is_placed_is_there_for_all_to_read(tmp_path: Path) -> None:
    folder = tmp_path / "agent-1"
    package.place(FILES, folder)
    assert package.contents(folder) == FILES
    assert package.is_placed(FILES, folder)
    assert (folder.stat().st_mode & 0o777, (folder / "other.py").stat().st_mode & 0o777) == (0o755, 0o644)
    assert names(tmp_path) == ["agent-1"]


def test_a_folder_that_is_whole_stays_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "agent-1"
    package.place(FILES, folder)
    before = folder.stat().st_ino
    package.place(FILES, folder)
    assert folder.stat().st_ino == before


def test_whatever_else_has_the_name_gives_way(tmp_path: Path) -> None:
    """A changed file, a missing one, one too many, bytecode, a file in the place of the folder."""
    folder = tmp_path / "agent-1"
    for damage in (
        lambda: (folder / "other.py").write_bytes(b"else"),
        (folder / "other.py").unlink,
        lambda: (folder / "more.py").write_bytes(b""),
        (folder / "__pycache__").mkdir,
    ):
        package.place(FILES, folder)
        damage()
        assert not package.is_placed(FILES, folder)
        package.place(FILES, folder)
        assert package.is_placed(FILES, folder)
        assert names(tmp_path) == ["agent-1"]
    other = tmp_path / "agent-2"
    other.write_bytes(b"a file")
    package.place(FILES, other)
    assert package.is_placed(FILES, other)
    assert names(tmp_path) == ["agent-1", "agent-2"]


def test_what_a_killed_process_left_is_no_folder_of_that_name(tmp_path: Path) -> None:
    """Half a draft is never taken for the folder, and is in nobody's way."""
    folder = tmp_path / "agent-1"
    draft = tmp_path / "agent-1.part-77"
    draft.mkdir()
    (draft / "__main__.py").write_bytes(b"imp")
    package.place(FILES, folder)
    assert package.is_placed(FILES, folder)


def test_the_same_folder_placed_by_another_process_meanwhile_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "agent-1"
    rename = Path.rename

    def late(path: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        package.place(FILES, folder)
        return rename(path, target)

    folder.mkdir()
    (folder / "other.py").write_bytes(b"damaged")
    monkeypatch.setattr(Path, "rename", late)
    package.place(FILES, folder)
    assert package.is_placed(FILES, folder)
    assert names(tmp_path) == ["agent-1"]


def test_where_nothing_can_be_written_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        package.place(FILES, tmp_path / "gone/agent-1")
    with pytest.raises(OSError, match="name too long"):
        package.place({**FILES, "x" * 300: b""}, tmp_path / "agent-1")
    assert names(tmp_path) == []


def test_as_a_program_it_places_what_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps({name: content.decode() for name, content in FILES.items()})
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    package.main([str(tmp_path / "agent-1")])
    assert package.is_placed(FILES, tmp_path / "agent-1")
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    with pytest.raises(SystemExit, match="No such file or directory"):
        package.main([str(tmp_path / "gone/agent-1")])
