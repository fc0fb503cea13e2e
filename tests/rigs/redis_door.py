"""An engine with a door on a Redis, and what publishers and operators do there."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.rigs.door import TOKEN, access
from tests.rigs.redis_servers import RedisServer
from tests.rigs.supervised_engine import SupervisedEngine
from tests.waiting import wait_until

STREAM, CHANNEL, POISON, GROUP = "purges", "varnish.purge", "purgeline:poison", "purgeline"
SITE = "img.example.com"


def redis_door_table(url: str, **keys: object) -> str:
    """Return a ``[[door]]`` for `door.access`'s token, that reads `STREAM` and `CHANNEL`."""
    table = {
        "kind": "redis",
        "url": url,
        "token": "cms",
        "streams": [STREAM],
        "channels": [CHANNEL],
        "takeover_s": 1,
        **keys,
    }
    return "[[door]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())


class Bus:
    """The Redis that a door reads, as a publisher and an operator see it."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server

    def add(self, *targets: str, stream: str = STREAM, **fields: object) -> str:
        """Add an entry with a task for URLs or paths of `SITE`; return its id."""
        urls = [f"http://{SITE}{one}" if one.startswith("/") else one for one in targets]
        return self.add_body(json.dumps({"targets": urls, **fields}), stream=stream)

    def add_body(self, body: str, *, stream: str = STREAM, at: str = "*", field: str = "task") -> str:
        """Add an entry; return its id."""
        return str(self.server.ask("XADD", stream, at, field, body))

    def publish(self, command: str, *value: str, host: str = SITE) -> int:
        """Publish a message in varnish-towncrier's form; return how many hear it."""
        message: dict[str, object] = {"command": command, "value": list(value)}
        if host:
            message["host"] = host
        return int(self.server.ask("PUBLISH", CHANNEL, json.dumps(message)))

    def listeners(self) -> int:
        """Return how many hear the channel."""
        return int(self.server.ask("PUBSUB", "NUMSUB", CHANNEL)[1])

    def has_group(self) -> bool:
        """Whether the stream is there, and its group."""
        return bool(self.server.ask("EXISTS", STREAM)) and bool(self.group())

    def pending(self) -> int:
        """Return how many entries are delivered and not acknowledged."""
        return int(self.group()["pending"])

    def group(self) -> dict[str, Any]:
        """Return what Redis says of the group; nothing without one."""
        groups = self.server.ask("XINFO", "GROUPS", STREAM)
        return next((dict(group) for group in groups if group["name"] == GROUP), {})

    def consumers(self) -> list[str]:
        """Return the names of its consumers."""
        return [str(one["name"]) for one in self.server.ask("XINFO", "CONSUMERS", STREAM, GROUP)]

    def is_done(self) -> bool:
        """Whether every entry is delivered and acknowledged."""
        group = self.group()
        last = self.server.ask("XINFO", "STREAM", STREAM)["last-generated-id"]
        return (group.get("pending"), group.get("last-delivered-id")) == (0, last)

    def wait_until_done(self, timeout_s: float = 45) -> None:
        """Wait for that."""
        wait_until(self.is_done, what="every entry being acknowledged", timeout_s=timeout_s)

    def poison(self) -> list[dict[str, str]]:
        """Return the records of what was set aside."""
        return [dict(fields) for _, fields in self.server.ask("XRANGE", POISON, "-", "+")]


class RedisDoorEngine(SupervisedEngine):
    """An engine whose door reads a Redis.

    Args:
        folder: see `EngineProcess`.
        nodes: tables of nodes.
        url: of the Redis.
        sites: of the token.
        door: keys of the door.
        token: keys of the token.
        workers: see `EngineProcess`.
    """

    def __init__(
        self,
        folder: Path,
        nodes: str,
        url: str,
        *sites: str,
        door: dict[str, object] | None = None,
        token: dict[str, object] | None = None,
        more: str = "",
        workers: int = 0,
        **engine: object,
    ) -> None:
        tables = nodes + access(*(sites or (SITE,)), **(token or {})) + redis_door_table(url, **(door or {}))
        super().__init__(folder, tables + more, workers=workers, **engine)

    def request(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Ask the engine's own port, with the token."""
        return super().request(method, path, body, {"Authorization": f"Bearer {TOKEN}", **(headers or {})})

    def tasks(self, **query: object) -> list[dict[str, Any]]:
        """Return all tasks, the newest first."""
        found: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            words = {"limit": 1000, **query, **({"cursor": cursor} if cursor else {})}
            page = self.get("/v1/engine/tasks?" + urlencode(words))
            found += page["tasks"]
            cursor = page["cursor"] or None
        return found

    def counted(self, outcome: str, source: str = STREAM) -> int:
        """Return how many entries or messages have come to *outcome*."""
        return int(self.metric("entries_total", f'outcome="{outcome}"', f'source="{source}"'))

    def metric(self, name: str, *labels: str) -> float:
        """Return a figure of the door; 0 where there is none."""
        page = self.request("GET", "/metrics")[2].decode()
        return sum(
            float(line.rpartition(" ")[2])
            for line in page.splitlines()
            if line.startswith(f"purgeline_redis_door_{name}{{") and all(label in line for label in labels)
        )
