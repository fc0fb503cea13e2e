"""Short names of Unix sockets."""

import os
from pathlib import Path

import pytest

from engine.base.unix_path import UnixPaths


def test_a_short_path_stays_as_it_is() -> None:
    assert UnixPaths().short(Path("/run/purgeline/w0.sock")) == "/run/purgeline/w0.sock"


def test_a_long_path_is_named_through_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / ("f" * 120)
    folder.mkdir()
    (folder / "w0.sock").touch()
    paths = UnixPaths()
    name = paths.short(folder / "w0.sock")
    assert len(name) < 100
    assert Path(name).samefile(folder / "w0.sock")
    assert paths.short(folder / "w1.sock").rpartition("/")[0] == name.rpartition("/")[0]
    paths.close()
    assert not Path(name).exists()


def test_closing_gives_the_descriptor_back(tmp_path: Path) -> None:
    folder = tmp_path / ("f" * 120)
    folder.mkdir()
    paths = UnixPaths()
    descriptor = int(paths.short(folder / "w0.sock").split("/")[4])
    os.fstat(descriptor)
    paths.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    paths.close()
