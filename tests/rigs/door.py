"""An engine with doors, and clients of them."""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from release.lab.caches import free_port
from tests.fakes.cache_clients import SITE
from tests.rigs.engine_process import EngineProcess
from tests.rigs.raw_client import Answer, RawClient

TOKEN = "door"  #: a bearer token with every scope, to ask the engine with


def access(*sites: str, **keys: object) -> str:
    """Return the tables of a token ``cms`` for *sites*, and of those sites."""
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    token = {
        "name": "cms",
        "sha256": digest,
        "scopes": ["submit", "read", "admin"],
        "sites": list(sites),
        **keys,
    }
    text = "[[auth.tokens]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in token.items())
    return text + "".join(f'[[site]]\nhost = "{site}"\n' for site in sites or ("*",))


def door_table(port: int, **keys: object) -> str:
    """Return a ``[[door]]`` for `access`'s token."""
    table = {"kind": "purge", "listen": f"127.0.0.1:{port}", "token": "cms", **keys}
    return "[[door]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())


class DoorEngine(EngineProcess):
    """An engine with one door, on `door_port`.

    Args:
        folder: see `EngineProcess`.
        nodes: tables of nodes.
        sites: of the token.
        door: keys of the door.
        more: further tables.
    """

    def __init__(
        self,
        folder: Path,
        nodes: str,
        *sites: str,
        door: dict[str, object] | None = None,
        more: str = "",
        **keys: object,
    ) -> None:
        self.door_port = free_port()
        tables = nodes + access(*(sites or (SITE,))) + door_table(self.door_port, **(door or {})) + more
        super().__init__(folder, tables, **keys)  # type: ignore[arg-type]

    def request(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Ask the engine's own port, with the token."""
        return super().request(method, path, body, {"Authorization": f"Bearer {TOKEN}", **(headers or {})})

    @contextlib.contextmanager
    def client(self) -> Iterator[RawClient]:
        """A connection to the door."""
        with RawClient(self.door_port) as client:
            yield client

    def ask(self, data: bytes) -> Answer:
        """Send one request on a connection of its own; return its answer."""
        with self.client() as client:
            return client.ask(data)

    def purge(self, data: bytes) -> dict[str, object]:
        """Send a purge, which must be answered 200, wait until it is done, and return its task."""
        answer = self.ask(data)
        assert answer.status == 200, answer
        return self.wait_for(answer.headers["purgeline-task"])
