"""Holds the rule of this room: a unit test opens no socket and starts no thread and no process."""

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest

FORBIDDEN: tuple[tuple[object, str], ...] = (
    (socket.socket, "connect"),
    (socket.socket, "connect_ex"),
    (socket.socket, "bind"),  # an event loop's own pair of sockets needs neither
    (threading.Thread, "start"),
    (subprocess.Popen, "__init__"),
    (os, "fork"),
    (os, "posix_spawn"),
)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that breaks the rule, also when the code that it tests catches the failure."""
    broken: list[str] = []

    def refusing(call: str) -> Callable[..., None]:
        def refuse(*args: object, **keywords: object) -> None:
            broken.append(call)
            pytest.fail(f"{call} in a unit test: it belongs to another room, see tests/conftest.py")

        return refuse

    with monkeypatch.context() as patches:
        for owner, name in FORBIDDEN:
            call = f"{getattr(owner, '__name__', owner)}.{name}"
            patches.setattr(owner, name, refusing(call))
        yield
    assert not broken, f"{', '.join(broken)} in a unit test"
