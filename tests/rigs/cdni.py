"""An engine with a CDNI door, and what its upstream CDNs ask of that."""

import hashlib
import json
from pathlib import Path
from typing import Any

from release.lab.caches import free_port
from tests.rigs.engine_process import EngineProcess
from tests.rigs.raw_client import Answer, RawClient
from tests.rigs.supervised_engine import SupervisedEngine
from tests.waiting import wait_until

PID = "AS64496:0"  #: of the engine's CDN
UPSTREAM = "AS64496:1"
COMMAND = "application/cdni; ptype=ci-trigger-command"
SETTLED = {"complete", "processed", "failed", "cancelled"}


def cdni_table(port: int, **keys: object) -> str:
    """Return a ``[[door]]`` of this kind."""
    table = {"kind": "cdni", "listen": f"127.0.0.1:{port}", "cdn_id": PID, **keys}
    certificates = table.pop("certificates", None)
    text = "[[door]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
    if isinstance(certificates, dict):
        text += "[door.certificates]\n" + "".join(
            f"{json.dumps(name)} = {json.dumps(token)}\n" for name, token in certificates.items()
        )
    return text


def client_table(name: str, *sites: str, **keys: object) -> str:
    """Return a token that is called as its client."""
    token = {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), "sites": list(sites), **keys}
    return "[[auth.tokens]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in token.items())


def site_tables(*sites: str) -> str:
    return "".join(f'[[site]]\nhost = "{site}"\n' for site in sites)


class Upstream:
    """What an upstream CDN does at a door.

    Args:
        port: of the door.
        token: its bearer token; empty: it has none.
    """

    def __init__(self, port: int, token: str = "") -> None:
        self.port = port
        self._token = token

    def ask(self, method: str, path: str, body: object = None, *lines: str) -> Answer:
        """Send one request on a connection of its own; return its answer."""
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        head = [f"{method} {path} HTTP/1.1", "Host: dcdn.example.com"]
        head += [f"Authorization: Bearer {self._token}"] if self._token else []
        if body is not None:
            head += (
                []
                if any(line.lower().startswith("content-type:") for line in lines)
                else [f"Content-Type: {COMMAND}"]
            )
            head.append(f"Content-Length: {len(data)}")
        return self.send("\r\n".join([*head, *lines]).encode() + b"\r\n\r\n" + data)

    def send(self, data: bytes) -> Answer:
        """Send bytes on a connection of its own; return the answer."""
        with RawClient(self.port) as client:
            return client.ask(data)

    def trigger(self, kind: str, **about: object) -> Answer:
        """Send a trigger: *about* has names with ``_`` for their dot."""
        named = {name.replace("_", ".", 1): value for name, value in about.items()}
        return self.ask("POST", "/triggers", {"trigger": {"type": kind, **named}, "cdn-path": [UPSTREAM]})

    def create(self, kind: str, **about: object) -> str:
        """Send a trigger, which must be accepted; return its path."""
        answer = self.trigger(kind, **about)
        assert answer.status == 201, answer
        return "/" + answer.headers["location"].split("/", 3)[3]

    def cancel(self, *paths: str) -> Answer:
        body = {"cancel": [f"http://dcdn.example.com{path}" for path in paths], "cdn-path": [UPSTREAM]}
        return self.ask("POST", "/triggers", body)

    def status(self, path: str) -> dict[str, Any]:
        answer = self.ask("GET", path)
        assert answer.status == 200, answer
        return dict(answer.json)

    def listed(self, name: str = "") -> list[str]:
        """Return the paths of the triggers in a collection."""
        answer = self.ask("GET", f"/triggers/{name}".rstrip("/"))
        assert answer.status == 200, answer
        return ["/" + url.split("/", 3)[3] for url in answer.json["triggers"]]

    def wait_for(self, path: str, *words: str, timeout_s: float = 45) -> dict[str, Any]:
        """Wait until a trigger has one of these, or has settled; return its status."""
        wanted = set(words) or SETTLED

        def reached() -> dict[str, Any] | None:
            status = self.status(path)
            return status if status["status"] in wanted else None

        return wait_until(reached, what=f"{path} being {wanted}", timeout_s=timeout_s) or {}


class CdniEngine(EngineProcess):
    """An engine with one CDNI door; see `EngineProcess`.

    Args:
        folder: see there.
        tables: nodes, sites, tokens.
        door: keys of the door.
        keys: see there.
    """

    def __init__(
        self, folder: Path, tables: str, *, door: dict[str, object] | None = None, **keys: Any
    ) -> None:
        self.door_port = free_port()
        super().__init__(folder, tables + cdni_table(self.door_port, **(door or {})), **keys)

    def upstream(self, token: str = "") -> Upstream:
        return Upstream(self.door_port, token)


class SupervisedCdniEngine(SupervisedEngine):
    """The same with workers."""

    def __init__(
        self, folder: Path, tables: str, *, door: dict[str, object] | None = None, **keys: Any
    ) -> None:
        self.door_port = free_port()
        super().__init__(folder, tables + cdni_table(self.door_port, **(door or {})), **keys)

    def upstream(self, token: str = "") -> Upstream:
        return Upstream(self.door_port, token)
