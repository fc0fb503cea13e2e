"""Clients of a run: they hand tasks in, ask what became of them, take them back; visitors of the caches."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from tests.model import plans
from tests.model.rules import Record, can, urls_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.model.caches import Cache
    from tests.model.world import World

Address = tuple[Any, Any]

_ANSWER_LIMIT_S: Final = 25.0


class Clients:
    """All of them.

    Args:
        world: in which they live.
        is_at_work: tells without asking that a task is not settled.
    """

    def __init__(self, world: World, is_at_work: Callable[[Record], bool] = lambda _: False) -> None:
        self._world = world
        self._rules = world.rules
        self._is_at_work = is_at_work
        self._number = 0

    # Asking

    async def ask(
        self, method: str, path: str, body: bytes = b"", *, address: Address | None = None
    ) -> tuple[int, bytes] | None:
        """Ask the engine; None when nobody listens, or does not answer."""
        addresses = self._world.engines.addresses()
        if not addresses:
            return None
        address = address or self._world.rng.choice(addresses)
        try:
            async with asyncio.timeout(_ANSWER_LIMIT_S):
                reader, writer = await asyncio.open_connection(*address)
                head = f"{method} {path} HTTP/1.1\r\nHost: engine\r\nContent-Length: {len(body)}\r\n"
                writer.write(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
                try:
                    text = await reader.readuntil(b"\r\n\r\n")
                    length = next(
                        int(line.split(b":")[1])
                        for line in text.split(b"\r\n")
                        if line.lower().startswith(b"content-length:")
                    )
                    return int(text.split()[1]), await reader.readexactly(length)
                finally:
                    writer.close()
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            return None

    async def look(self) -> None:
        """See what became of tasks that are not over."""
        for record in self._world.records():
            if not self._is_at_work(record):
                await self._see(record)

    async def _see(self, record: Record) -> None:
        reply = await self.ask("GET", f"/v1/engine/task/{record.task_id}")
        if reply is None or reply[0] >= 500:
            return  # it is starting or ending
        if reply[0] != 200:
            self._rules.fail(f"{record} was accepted, and the engine answers {reply}")
        self._rules.saw(record, json.loads(reply[1]), self._world.now())

    # Tasks

    async def submit(self, action: plans.Submit) -> None:
        """Hand a task in; what it purges changes just before."""
        world = self._world
        body = self._body_of(action)
        covered = urls_of(body)
        if not action.is_unchanged:
            for url in covered:
                world.origin.change(url)
        record = Record(
            body["id"],
            body,
            nodes=(),
            skipped=frozenset(),
            drivers=None,
            sent_at=world.now(),
            required={url: world.origin.version(url) for url in covered},
        )
        addresses = world.engines.addresses()
        address = addresses[action.worker % len(addresses)] if addresses else None
        config = world.engines.stable_config()
        text = json.dumps(body).encode()
        reply = await self.ask("POST", "/v1/engine/task", text, address=address)
        world.note(f"  → {reply}")
        if config is not None and world.engines.stable_config() is config:
            self._plan(record, config)
        if reply is None or reply[0] == 503:
            return
        if reply[0] == 422 and (record.drivers is None or self._may_refuse(record)):
            world.figures.faults["incapable, refused"] += 1
            return
        if reply[0] != 202 or record.names_unknown:
            self._rules.fail(f"{body} was answered {reply}")
        record.is_accepted, record.total = True, json.loads(reply[1])["total"]
        if record.drivers is None:
            await self._read_plan(record)
        world.figures.faults["incapable, skipped"] += bool(record.skipped)
        self._rules.records[record.task_id] = record

    def _body_of(self, action: plans.Submit) -> dict[str, Any]:
        urls = [plans.URLS[number] for number in action.urls]
        self._number += 1
        body: dict[str, Any] = {
            "id": f"task-{self._number}",
            "action": action.action,
            "kind": "url",
            "targets": urls,
        }
        if action.action == "purge":
            if action.kind != "url":
                body |= {"kind": action.kind, "targets": _targets(action.kind, urls)}
            elif action.prefetch:
                body["prefetch"] = True
            if action.kind == "url" and action.rebound_s:
                body["rebound_s"] = action.rebound_s
            if action.soft:
                body["soft"] = True
        if action.nodes:
            configured = [name for name in action.nodes if name in self._world.configured]
            body["nodes"] = configured or ["edge-1"]
        if action.on_incapable:
            body["on_incapable"] = action.on_incapable
        return body

    def _plan(self, record: Record, config: dict[str, Any]) -> None:
        """Say which nodes a task goes to."""
        drivers = {node["name"]: node["driver"] for node in config["node"]}
        wanted = [name for name in record.body.get("nodes", drivers) if name in drivers]
        able = [name for name in wanted if can(drivers[name], record.kind)]
        record.drivers = drivers
        record.nodes = tuple(able)
        record.skipped = frozenset(wanted) - set(able)
        record.names_unknown = not drivers.keys() >= {*record.body.get("nodes", ())}

    def _may_refuse(self, record: Record) -> bool:
        refuses = record.body.get("on_incapable") == "refuse"
        return not record.nodes or record.names_unknown or (refuses and bool(record.skipped))

    async def _read_plan(self, record: Record) -> None:
        """Take from the engine which nodes a task goes to: its configuration changed when it was accepted."""
        reply = await self.ask("GET", f"/v1/engine/task/{record.task_id}")
        names = record.body.get("nodes", plans.NODES)
        if reply is not None and reply[0] == 200:
            record.skipped = frozenset(skip["name"] for skip in json.loads(reply[1])["skipped"])
        else:
            caches = self._world.caches
            record.skipped = frozenset(name for name in names if not can(caches[name].driver, record.kind))
        nodes = [name for name in plans.NODES if name in names and name not in record.skipped]
        subtasks = len(record.body["targets"]) * (2 if record.body.get("prefetch") else 1)
        if record.total != subtasks * len(nodes):  # that configuration had a node less
            nodes = [name for name in nodes if name != plans.REMOVED]
        record.nodes = tuple(nodes)

    async def cancel(self, number: int) -> bool:
        """Take back the *number*-th from the last of the tasks that are not over; False: there is none."""
        live = self._world.records()
        if number >= len(live):
            return False
        record = live[-1 - number]
        record.is_cancel_asked = True
        reply = await self.ask("DELETE", f"/v1/engine/task/{record.task_id}")
        self._world.note(f"  → {reply}")
        if reply is not None and reply[0] == 200:
            self._rules.saw(record, json.loads(reply[1]), self._world.now())
        return True

    # Operators

    async def pause(self, node: str, *, is_paused: bool) -> bool | None:
        """Pause a node, or resume it; return whether that was done, None when nobody knows."""
        verb = "pause" if is_paused else "resume"
        reply = await self.ask("POST", f"/v1/engine/nodes/{node}/{verb}")
        self._world.note(f"  → {reply}")
        if reply is None or reply[0] >= 500:
            return None
        if reply[0] not in {200, 404}:
            self._rules.fail(f"{verb} {node} was answered {reply}")
        return reply[0] == 200

    # Visitors

    async def visit(self, cache: Cache, number: int) -> None:
        """Ask a cache for a URL."""
        if cache.faults.door != "refused" and not cache.faults.hangs:
            await cache.get(plans.URLS[number], "visitor")


def _targets(kind: str, urls: list[str]) -> list[str]:
    """Return targets of a wide purge that cover some of *urls*."""
    hosts = sorted({url.split("/")[2] for url in urls})
    if kind == "host":
        return hosts
    if kind == "key":
        return [f"{host}/x" for host in hosts]
    return [f"http://{host}/x/" + ("[0-9]$" if kind == "regex" else "") for host in hosts]
