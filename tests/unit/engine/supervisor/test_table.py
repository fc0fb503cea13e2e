"""The keys of ``[engine]`` that the supervisor needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from engine.config.doors import DOORS, Door
from engine.supervisor.errors import USAGE, SupervisorError
from engine.supervisor.table import EngineTable, read_doors, read_table, settle

if TYPE_CHECKING:
    from pathlib import Path


def test_what_the_file_does_not_have_has_the_engines_default() -> None:
    assert settle({}, {}) == EngineTable(
        listen="127.0.0.1:9181", listen_backlog=4096, data_dir="var", drain_timeout_s=30.0
    )


def test_the_environment_overrides_the_file_and_the_command_line_both() -> None:
    file = {"listen": "10.0.0.1:1", "data_dir": "a"}
    environment = {"PURGELINE_ENGINE__LISTEN": "10.0.0.1:2", "PURGELINE_ENGINE__DATA_DIR": "b"}
    assert settle(file, {}).listen == "10.0.0.1:1"
    assert settle(file, environment).listen == "10.0.0.1:2"
    assert settle(file, environment, listen="10.0.0.1:3").listen == "10.0.0.1:3"
    assert settle(file, environment, listen="10.0.0.1:3").data_dir == "b"


def test_numbers_may_be_whole_or_text_of_the_environment() -> None:
    assert settle({"drain_timeout_s": 5}, {}).drain_timeout_s == 5.0
    assert settle({"drain_timeout_s": 0}, {}).drain_timeout_s == 0.0
    assert settle({}, {"PURGELINE_ENGINE__LISTEN_BACKLOG": "16"}).listen_backlog == 16


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"listen": "nowhere"}, "engine.listen: 'nowhere' is not HOST:PORT"),
        ({"listen": "a:65536"}, "is not HOST:PORT"),
        ({"listen": ":80"}, "is not HOST:PORT"),
        ({"listen": []}, r"engine.listen: \[\] is wrong"),
        ({"listen_backlog": "many"}, "engine.listen_backlog: 'many' is wrong"),
        ({"listen_backlog": 0}, "engine.listen_backlog: 0 is wrong"),
        ({"data_dir": ""}, "engine.data_dir: '' is wrong"),
        ({"drain_timeout_s": []}, r"engine.drain_timeout_s: \[\] is wrong, it takes a value such as 30.0"),
    ],
)
def test_a_wrong_value_is_named(table: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        settle(table, {})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "no such file"),
        ("[engine", "cannot be read as TOML"),
        ("engine = 1", "engine must be a table"),
        ("[engine]\ndata_dir = 7.5", "engine.data_dir: 7.5 is wrong"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str | None, reason: str) -> None:
    path = tmp_path / "engine.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SupervisorError, match=reason) as caught:
        read_table(path)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == USAGE


@pytest.mark.parametrize("kind", DOORS)
def test_the_supervisor_names_the_socket_of_each_kind_of_door_as_the_engine_does(
    tmp_path: Path, kind: str
) -> None:
    """It reads the file by itself, with the standard library alone."""
    path = tmp_path / "engine.toml"
    has_socket = issubclass(DOORS[kind], Door)
    table = {"kind": kind, "listen": "127.0.0.1:1"} if has_socket else {"kind": kind, "url": "redis://h/0"}
    path.write_text("[[door]]\n" + "".join(f'{key} = "{value}"\n' for key, value in table.items()))
    door = msgspec.convert(table, DOORS[kind])
    assert read_doors(path) == ([door.socket_name] if isinstance(door, Door) else [])


def test_the_addresses_of_doors_are_read_and_another_value_is_named(tmp_path: Path) -> None:
    path = tmp_path / "engine.toml"
    path.write_text("[engine]\n")
    assert read_doors(path) == []
    path.write_text('[[door]]\nlisten = "127.0.0.1:1"\n[[door]]\nlisten = "[::1]:2"\n')
    assert read_doors(path) == ["127.0.0.1:1", "[::1]:2"]
    path.write_text('[[door]]\nkind = "htcp"\nlisten = "127.0.0.1:1"\n[[door]]\nlisten = "127.0.0.1:1"\n')
    assert read_doors(path) == ["udp/127.0.0.1:1", "127.0.0.1:1"]
    path.write_text('[[door]]\nkind = "purge"\n')
    with pytest.raises(SupervisorError, match=r"door\.listen: None is not HOST:PORT"):
        read_doors(path)
