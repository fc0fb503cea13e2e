"""Engines above engines: a root, and regions that are its nodes."""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

from tests.rigs.engine_process import EngineProcess
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path


def keys_of(engine: EngineProcess) -> list[str]:
    """Return the public keys by which an engine's answers are checked, as soon as it has one."""

    def keys() -> list[str]:
        return [key["x"] for key in engine.get("/v1/engine/keys")["keys"]]

    return wait_until(keys, what="a key") or []


def region_table(region: EngineProcess, *, name: str, layer: str = "edge", **extra: object) -> str:
    """Return the ``[[node]]`` table of a running engine that is a node of another."""
    keys: dict[str, object] = {
        "name": name,
        "layer": layer,
        "driver": "engine",
        "url": f"http://127.0.0.1:{region.port}",
        "public_keys": None,
        **extra,
    }
    if keys["public_keys"] is None:
        keys["public_keys"] = keys_of(region)
    return "[[node]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


def token_table(token: str) -> str:
    """Return the tables of an engine that takes one token, for all that it has."""
    digest = hashlib.sha256(token.encode()).hexdigest()
    scopes = json.dumps(["submit", "read", "admin"])
    token = f'[[auth.tokens]]\nname = "root"\nsha256 = "{digest}"\nscopes = {scopes}\n'
    return f'{token}[[site]]\nhost = "*.example.com"\n'


class GuardedEngine(EngineProcess):
    """An engine that is asked with a token."""

    token = "secret"

    def request(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        return super().request(
            method, path, body, {"Authorization": f"Bearer {self.token}", **(headers or {})}
        )


def wait_known(engine: EngineProcess, task_id: str) -> None:
    """Wait until an engine has a task."""
    wait_until(lambda: engine.request("GET", f"/v1/engine/task/{task_id}")[0] == 200, what=task_id)


def engine_in(
    folder: Path, tables: str, *, name: str, kind: type[EngineProcess] = EngineProcess, **engine: Any
) -> EngineProcess:
    """Return an engine with a folder of its own below *folder*, not started."""
    own = folder / name
    own.mkdir(parents=True, exist_ok=True)
    return kind(own, tables, name=name, **engine)


def wait_state(engine: EngineProcess, node: str, *states: str, timeout_s: float = 45) -> dict[str, Any]:
    """Wait until a node is in one of *states*; return its document."""
    last: dict[str, Any] = {}
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        last = engine.node(node)
        if last["state"] in states:
            return last
        time.sleep(0.02)
    raise AssertionError(f"{node} is not {states}: {last}")
