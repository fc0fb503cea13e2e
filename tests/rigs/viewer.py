"""One that watches an engine's events, without a browser."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENTS = "/v1/engine/events"


class EventViewer:
    """A client of the stream; blocking.

    Args:
        port: of the engine.
        token: what it asks with; empty: nothing.
    """

    def __init__(self, port: int, token: str = "", timeout_s: float = 45) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._connection.request("GET", EVENTS, headers=headers)
        self.response = self._connection.getresponse()
        self.nodes: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.response.close()
        self._connection.close()

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield kind and value of each event, until the engine ends the stream; nodes are kept up to date."""
        kind = ""
        for line in self.response:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                told = json.loads(value)
                if kind == "whole":
                    self.nodes = {node["name"]: node for node in told["nodes"]}
                for node in told.get("nodes", ()) if kind == "change" else ():
                    self.nodes.setdefault(node["name"], {}).update(node)
                yield kind, told
