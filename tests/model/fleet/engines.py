"""Engines of a fleet: each a process on a host, with a configuration, a version and a clock of its own."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.model.fleet import start
from tests.rigs.engine_process import ROOT, EngineProcess
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.rigs.redis_servers import Place

TOKEN: Final = "of-the-model"
TAKEOVER_S: Final = 3
_PORT: Final = 9181
_START_LIMIT_S: Final = 180.0  #: on cores that other work keeps busy
_END_LIMIT_S: Final = 60.0
_ENGINE: Final[dict[str, Any]] = {
    "request_timeout_s": 1,
    "connect_timeout_s": 0.5,
    "due_s": 5,
    "prefetch_timeout_s": 2,
    "on_incapable": "skip",
    "connections_per_node": 2,
}
_SITES: Final = ("a.example", "b.example", "u.example")


class FleetEngine(EngineProcess):
    """One engine.

    Args:
        folder: of its configuration, data, log and clock.
        place: its host.
        name: of the engine.
        store: keys of ``[store]``.
        is_apart: its processes are not seen by the others', as on another machine.
        broken: the rule that it breaks; empty: none.
        engine: keys of ``[engine]`` that are others than those of `_ENGINE`.
    """

    def __init__(
        self,
        folder: Path,
        place: Place,
        name: str,
        store: Mapping[str, object],
        *,
        is_apart: bool,
        broken: str = "",
        **engine: object,
    ) -> None:
        folder.mkdir()
        self.name = name
        self.address = place.address
        self._clock = folder / "clock"
        self.set_clock(0)
        self.nodes: Sequence[Mapping[str, Any]] = ()  #: that it is configured with, as of its last start
        self.is_taking = False  #: it is up, not paused, not about to end
        self._store = dict(store)
        self._is_apart = is_apart
        self._broken = broken
        spaces = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
        prefix = (*place.prefix, *(spaces if is_apart else ()))
        keys = {**_ENGINE, **engine, "name": name, "listen": f"{place.address}:{_PORT}"}
        super().__init__(folder, "", prefix=prefix, **keys)
        self.port = _PORT

    def __repr__(self) -> str:
        return f"<FleetEngine {self.name} at {self.address}>"

    def prepare(
        self,
        nodes: Sequence[Mapping[str, Any]],
        *,
        drain_s: float,
        checkout: Path = ROOT,
        token: str = TOKEN,
    ) -> None:
        """Say what it is from its next start on.

        Args:
            nodes: of its configuration.
            drain_s: how long it may take to end.
            checkout: whose engine it is.
            token: that it takes.
        """
        self.nodes = list(nodes)
        self._checkout = checkout
        tables = [f"drain_timeout_s = {drain_s}", "[store]"]
        tables += [f"{key} = {json.dumps(value)}" for key, value in self._store.items()]
        tables += ["[proof]", "evidence_interval_s = 1", "[[auth.tokens]]", 'name = "model"']
        tables += [f'sha256 = "{hashlib.sha256(token.encode()).hexdigest()}"']
        tables += ['scopes = ["submit", "read", "admin"]']
        for host in _SITES:
            tables += ["[[site]]", f'host = "{host}"']
        for layer in ("parent", "edge"):
            tables += ["[[layer]]", f'name = "{layer}"']
        for node in nodes:
            tables += ["[[node]]", *(f"{key} = {json.dumps(value)}" for key, value in node.items())]
        self.configure("\n".join(tables) + "\n")

    def begin(self) -> None:
        """Start it, and wait until it is ready; unlike `start` also when Redis is away for a while."""
        self.start(wait=False)
        wait_until(self._is_ready, what=f"{self.name} being ready", timeout_s=_START_LIMIT_S)

    def _command(self) -> list[str]:
        python = sys.executable if self._checkout == ROOT else str(self._checkout / ".venv/bin/python")
        rule = self._broken if self._checkout == ROOT else ""
        return [python, start.__file__, str(self._clock), rule]

    def set_clock(self, offset_s: float) -> None:
        """Let its clock be ahead by so much from now on."""
        start.set_clock(self._clock, offset_s)

    @property
    def engine_pid(self) -> int:
        """The engine's own process; with one of another name space around it, the child of that."""
        if not self._is_apart:
            return self.pid
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii").split()
        return int(children[0])

    def send(self, number: int) -> None:
        """Send the engine a signal, if it is there."""
        try:
            os.kill(self.engine_pid, number)
        except (OSError, IndexError):
            assert not self.is_up or number != signal.SIGSTOP, f"{self.name} cannot be stopped"

    def end(self) -> None:
        """SIGTERM, and wait for its end."""
        if self.is_up:
            self.send(signal.SIGTERM)
            assert self.process is not None
            self.process.wait(_END_LIMIT_S)

    def request(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request; see `EngineProcess.request`."""
        connection = http.client.HTTPConnection(self.address, self.port, timeout=10)
        try:
            data = json.dumps(body).encode() if body is not None else None
            connection.request(method, path, data, {"Authorization": f"Bearer {TOKEN}", **(headers or {})})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()
