"""The sockets of a process: what is bound, and what is handed down."""

import os
import socket
import stat
from pathlib import Path

import pytest

from engine.config.load import parse
from engine.config.tables import Config
from engine.errors import ConfigError
from engine.process.sockets import bind_unix, open_listener, take_socket


def listening_on(listen: str) -> Config:
    return parse({"engine": {"listen": listen}})


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_binds_what_listen_says(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """IPv4, IPv6 and a name; the socket listens and does not block."""
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    with open_listener(listening_on(f"{host}:0")) as listener:
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        assert not listener.getblocking()


def test_an_address_that_cannot_be_bound_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"engine.listen: {address} cannot be bound: .*in use"):
            open_listener(listening_on(address))


def test_descriptors_for_another_process_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """LISTEN_PID says whose they are; a child that inherits the environment binds."""
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", "1")
    with open_listener(listening_on("127.0.0.1:0")) as listener:
        assert listener.fileno() != 3


def test_a_socket_that_is_handed_down_is_not_handed_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        descriptor = os.dup(bound.fileno())
        os.set_inheritable(descriptor, True)
        with take_socket(descriptor) as taken:
            assert taken.getsockname() == bound.getsockname()
            assert not taken.getblocking()
            assert not os.get_inheritable(descriptor)


def test_a_descriptor_that_is_no_socket_is_named(tmp_path: Path) -> None:
    with (
        (tmp_path / "file").open("wb") as file,
        pytest.raises(ConfigError, match=f"PURGELINE_WORKER: descriptor {file.fileno()} is no socket"),
    ):
        take_socket(file.fileno())


@pytest.mark.parametrize("length", [1, 150])
def test_a_unix_socket_is_this_users_alone_however_long_its_path_is(tmp_path: Path, length: int) -> None:
    folder = tmp_path / ("f" * length)
    folder.mkdir()
    path = folder / "w0.sock"
    path.touch()  # of a worker that was killed
    with bind_unix(path) as bound:
        mode = path.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
        assert not bound.getblocking()
