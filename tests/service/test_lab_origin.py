"""The origin of the demo and of tests, as it stops."""

from __future__ import annotations

import contextlib
import socket

from release.lab.origin import Origin


def test_a_connection_that_is_accepted_while_the_origin_stops_is_closed_with_the_others() -> None:
    for _ in range(30):
        origin = Origin()
        origin.start()
        clients = [socket.create_connection(("127.0.0.1", origin.port), timeout=30) for _ in range(3)]
        origin.stop()
        for client in clients:
            with client, contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
