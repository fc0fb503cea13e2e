"""What the engine does not start on: damaged data, data in use, wrong settings. One clear line each."""

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.node import FakeNode
from tests.rigs.engine_process import EngineProcess, fake_table


def table(node: FakeNode) -> str:
    return fake_table(node.url, name="edge-1", driver="ats")


def fails_to_start(engine: EngineProcess) -> tuple[int, str]:
    """Return the exit code and what it wrote, which has no traceback."""
    before = len(engine.log()) if engine.log_path.exists() else 0
    engine.start(wait=False)
    assert engine.process is not None
    try:
        code = engine.process.wait(20)
    finally:
        engine.process.kill()
        engine.process.wait()
    said = engine.log()[before:].strip()
    assert "Traceback" not in said
    return code, said


def node_that_is_away() -> FakeNode:
    made = FakeNode()
    with made:
        pass  # it has a port now, and keeps it
    return made


@pytest.fixture
def node() -> FakeNode:
    return node_that_is_away()


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of an earlier run: settled tasks."""
    folder = tmp_path_factory.mktemp("earlier")
    with FakeNode() as node, EngineProcess(folder, table(node)) as engine:
        for number in range(50):
            targets = [f"http://img.example.com/{number}/{place}" for place in range(50)]
            engine.submit(targets, id=f"t-{number}")
        for number in range(50):
            engine.wait_for(f"t-{number}")
        assert engine.stop() == 0
    return folder / "var"


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory, earlier: Path) -> Path:
    """The same, and a task on its way when the engine was killed."""
    folder = tmp_path_factory.mktemp("crashed")
    shutil.copytree(earlier, folder / "var")
    with EngineProcess(folder, table(node_that_is_away())) as engine:
        engine.submit(["http://img.example.com/unfinished"], id="unfinished")
        engine.kill()
    return folder / "var"


@pytest.fixture
def engine(node: FakeNode, earlier: Path, tmp_path: Path) -> EngineProcess:
    """An engine that is not running, with data of an earlier run."""
    made = EngineProcess(tmp_path, table(node))
    shutil.copytree(earlier, tmp_path / "var")
    return made


def database(engine: EngineProcess) -> Path:
    return engine.folder / "var" / "tasks-0.db"


def overwrite(path: Path) -> None:
    """Noise over the middle of the file."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 3)
        file.write(b"\xa5" * (size // 3))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def cut_off_a_page(path: Path) -> None:
    os.truncate(path, 5000)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def remove(path: Path) -> None:
    path.unlink()
    path.with_name(path.name + "-wal").write_bytes(b"what was not yet in the file")


def replace(path: Path) -> None:
    path.write_bytes(b"this is no database\n" * 500)


_DAMAGES = (overwrite, cut, cut_off_a_page, empty, replace, remove)


@pytest.mark.parametrize(
    ("has_crashed", "damage"),
    [
        pytest.param(
            has_crashed,
            damage,
            id=f"after a {'crash' if has_crashed else 'stop'}-{damage.__name__}",
            marks=[pytest.mark.slow] * (has_crashed and damage not in {overwrite, remove}),
        )
        for has_crashed in (False, True)
        for damage in _DAMAGES
    ],
)
def test_a_damaged_database_stops_the_start(
    engine: EngineProcess, crashed: Path, damage: object, has_crashed: bool
) -> None:
    """Names the file and what to do, and leaves the file as it is for whoever repairs it."""
    if has_crashed:
        shutil.rmtree(engine.folder / "var")
        shutil.copytree(crashed, engine.folder / "var")
    path = database(engine)
    assert callable(damage)
    damage(path)
    before = path.read_bytes() if path.exists() else None
    code, said = fails_to_start(engine)
    assert code == 1
    line = json.loads(said.splitlines()[-1])
    for part in (str(path), "damaged", "does not start", ".recover", "move"):
        assert part in line["message"]
    assert line["level"] == "ERROR"
    assert (path.read_bytes() if path.exists() else None) == before
    assert fails_to_start(engine)[0] == 1


def test_moving_it_away_begins_empty(engine: EngineProcess, node: FakeNode) -> None:
    """The last thing that the message says to do works."""
    replace(database(engine))
    assert fails_to_start(engine)[0] == 1
    for suffix in ("", "-wal", "-shm"):
        database(engine).with_name(f"tasks-0.db{suffix}").unlink(missing_ok=True)
    with node, engine:
        assert engine.request("GET", "/v1/engine/task/t-1")[0] == 404
        engine.wait_for(engine.submit(["http://img.example.com/a"], id="t-1"))


def test_a_repaired_database_is_taken(engine: EngineProcess, node: FakeNode) -> None:
    """A sound copy in its place is all it takes."""
    path = database(engine)
    copy = path.read_bytes()
    overwrite(path)
    assert fails_to_start(engine)[0] == 1
    path.write_bytes(copy)
    with node, engine:
        assert engine.task("t-1")["state"] == "done"


def test_a_second_engine_on_the_same_data_is_refused(
    engine: EngineProcess, node: FakeNode, tmp_path: Path
) -> None:
    """The first one is not disturbed."""
    (tmp_path / "other").mkdir()
    other = EngineProcess(tmp_path / "other", table(node), data_dir=str(database(engine).parent))
    with node, engine:
        code, said = fails_to_start(other)
        assert code == 1
        assert "another engine is using it" in said
        assert "data_dir" in said
        assert engine.wait_for(engine.submit(["http://img.example.com/a"]))["state"] == "done"
    with node, other:  # it has left
        assert other.task("t-1")["state"] == "done"


def test_a_data_dir_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in ("file", "file/below"):
        engine = EngineProcess(tmp_path, "", data_dir=str(tmp_path / place))
        code, said = fails_to_start(engine)
        assert code == 1
        assert str(tmp_path / place) in said
        assert "data_dir" in said


def test_a_data_dir_that_cannot_be_written(tmp_path: Path) -> None:
    """A file system that is mounted read-only; rights alone would not stop root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(folder)], check=True)
    try:
        for place in (folder, folder / "var"):
            code, said = fails_to_start(EngineProcess(tmp_path, "", data_dir=str(place)))
            assert code == 1
            assert "Read-only file system" in said
            assert str(place) in said
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(
    ("engine_keys", "tables", "parts"),
    [
        ({"pipline_depth": 3}, "", ["pipline_depth", "pipeline_depth"]),
        ({"due_s": "soon"}, "", ["engine.due_s", "float", "str"]),
        ({"due_s": -1}, "", ["engine.due_s", "at least"]),
        ({"log_format": "xml"}, "", ["engine.log_format", "xml"]),
        ({"listen": "127.0.0.1"}, "", ["engine.listen", "127.0.0.1"]),
        ({"listen": "127.0.0.1:99999"}, "", ["engine.listen", "99999"]),
        ({"listen": "192.0.2.1:80"}, '[[site]]\nhost = "*"\n', ["engine.listen", "auth.tokens"]),
        ({"listen": "0.0.0.0:0"}, "", ["not loopback", "auth.tokens"]),
        ({"listen": "[::]:0"}, "", ["not loopback", "auth.tokens"]),
        ({}, "[enigne]\n", ["enigne", "engine"]),
        ({}, '[store]\nurl = "mysql://a"\n', ["store.url", "mysql"]),
        ({}, '[[node]]\nname = "a"\ndriver = "vanish"\nurl = "http://a"\n', ["driver", "vanish"]),
        ({}, '[[node]]\nname = "a"\ndriver = "ats"\nurl = "ftp://a"\n', ["ftp://a"]),
        ({}, '[[node]]\nname = "a"\n', ["missing", "driver"]),
        ({}, "[[node]\n", ["not valid TOML", "line"]),
        ({}, '[[site]]\nhost = "http://a/"\n', ["site.host", "http://a/"]),
    ],
)
def test_a_wrong_setting_is_one_clear_line(
    tmp_path: Path, engine_keys: dict[str, Any], tables: str, parts: list[str]
) -> None:
    """Exit code 2; the line names the file, the key and what it takes; nothing is made on disk."""
    engine = EngineProcess(tmp_path, tables, **engine_keys)
    code, said = fails_to_start(engine)
    assert code == 2
    assert len(said.splitlines()) == 1
    for part in (str(engine.config_path), *parts):
        assert part in said
    assert not (tmp_path / "var").exists()


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    engine = EngineProcess(tmp_path, "")
    with socket.create_server(("127.0.0.1", engine.port)):
        code, said = fails_to_start(engine)
    assert code == 2
    assert len(said.splitlines()) == 1
    assert f"127.0.0.1:{engine.port}" in said
    assert "in use" in said


@pytest.mark.parametrize(
    ("name", "value", "parts"),
    [
        ("PURGELINE_ENGINE__DUE", "5", ["PURGELINE_ENGINE__DUE", "due_s"]),
        ("PURGELINE_ENGINE__DUE_S", "soon", ["PURGELINE_ENGINE__DUE_S", "float"]),
        ("PURGELINE_ENGINES__DUE_S", "5", ["PURGELINE_ENGINES__DUE_S", "engine"]),
    ],
)
def test_a_wrong_override_names_the_variable(tmp_path: Path, name: str, value: str, parts: list[str]) -> None:
    code, said = fails_to_start(EngineProcess(tmp_path, "", env={name: value}))
    assert code == 2
    assert len(said.splitlines()) == 1
    for part in parts:
        assert part in said


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    engine = EngineProcess(tmp_path, "")
    engine.config_path.unlink()
    code, said = fails_to_start(engine)
    assert (code, len(said.splitlines())) == (2, 1)
    assert str(engine.config_path) in said
