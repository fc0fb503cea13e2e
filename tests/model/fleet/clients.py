"""Clients of a fleet: they hand tasks in at any engine until one takes them, and ask any other for them."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from tests.model import plans
from tests.model.caches import key_of
from tests.model.fleet.engines import TOKEN
from tests.model.fleet.reasons import ONCE
from tests.model.rules import Record, can, urls_of

if TYPE_CHECKING:
    import random

    from tests.model.fleet.engines import FleetEngine
    from tests.model.fleet.storm import Storm

_ANSWER_LIMIT_S: Final = 8.0
_PAUSE_S: Final = 0.3
_LOOK_S: Final = 0.01
_KINDS: Final = ("url", "url", "url", "prefix", "host", "regex", "key")


class FleetClients:
    """All of them.

    Args:
        storm: in which they live.
        rng: draws what they hand in.
    """

    def __init__(self, storm: Storm, rng: random.Random) -> None:
        self._storm = storm
        self._rules = storm.rules
        self._rng = rng
        self._tasks = 0
        self._urls = 0
        self._last_accepted_at = storm.now()
        self.missing: set[str] = set()  #: accepted tasks that an engine did not know when it was asked last

    # Asking

    async def ask(
        self, engine: FleetEngine, method: str, path: str, body: bytes = b""
    ) -> tuple[int, bytes] | None:
        """Ask an engine; None: there was no answer."""
        try:
            async with asyncio.timeout(_ANSWER_LIMIT_S):
                reader, writer = await asyncio.open_connection(engine.address, engine.port)
                head = f"{method} {path} HTTP/1.1\r\nHost: engine\r\nContent-Length: {len(body)}\r\n"
                head += f"Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n\r\n"
                try:
                    writer.write(head.encode() + body)
                    text = (await reader.readuntil(b"\r\n\r\n")).lower()
                    length = int(text.partition(b"content-length:")[2].partition(b"\r\n")[0])
                    return int(text.split()[1]), await reader.readexactly(length)
                finally:
                    writer.close()
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            return None

    async def look(self) -> None:
        """See what became of tasks that are not over, for ever."""
        while True:
            records = self._storm.records()
            for record in records:
                if not record.is_over:
                    await self.see(record)
                await asyncio.sleep(_LOOK_S)
            if not records:
                await asyncio.sleep(_PAUSE_S)

    async def see(self, record: Record) -> bool:
        """See what became of a task; False: nobody told."""
        engine = self._rng.choice(self._storm.engines)
        reply = await self.ask(engine, "GET", f"/v1/engine/task/{record.task_id}")
        if reply is None or reply[0] >= 500:
            return False
        if reply[0] != 200:
            self.missing.add(record.task_id)
            self._storm.figures.seen["answers 404 for a task that was accepted"] += 1
            self._storm.note(f"{engine.name} answers {reply} for {record}")
            return True
        self.missing.discard(record.task_id)
        self._rules.saw(record, json.loads(reply[1]), self._storm.now())
        return True

    # Tasks

    async def hand_in(self) -> None:
        """Hand tasks in, until the storm is over."""
        while not self._storm.is_over:
            await self._hand_in(self._body())
            await asyncio.sleep(self._rng.random() * 2 * _PAUSE_S)

    async def _hand_in(self, body: dict[str, Any]) -> None:
        storm, seen = self._storm, self._storm.figures.seen
        covered = urls_of(body)
        for url in covered:
            storm.origin.change(url)
        required = {url: storm.origin.version(url) for url in covered}
        record = Record(body["id"], body, (), frozenset(), None, storm.now(), required)
        plans_of: list[tuple[tuple[str, ...], frozenset[str], dict[str, str]]] = []
        while True:
            engine = self._rng.choice(storm.engines)
            plan = plan_of(body, engine.nodes)
            reply = await self.ask(engine, "POST", "/v1/engine/task", json.dumps(body).encode())
            if plan not in plans_of:
                plans_of.append(plan)  # one that gave no answer may have taken it
            if reply is not None and reply[0] == 422 and not all(nodes for nodes, *_ in plans_of):
                seen["tasks refused, no node can do them"] += 1
                return
            if reply is not None and reply[0] in {200, 202}:
                break
            seen["answers 503" if reply else "no answer"] += 1
            if reply is not None and reply[0] != 503:
                self._rules.fail(f"{body} was answered {reply}")
                return
            if storm.has_ended:
                return
            await asyncio.sleep(0.1)
        seen["accepted"] += 1
        record.is_accepted, record.total = True, json.loads(reply[1])["total"]
        self._plan(record, plans_of)
        self._rules.records[record.task_id] = record
        now = storm.now()
        storm.longest_gap_s = max(storm.longest_gap_s, now - self._last_accepted_at)
        self._last_accepted_at = now
        if self._rng.random() < 0.02:
            await self._cancel(record)

    def _plan(
        self, record: Record, plans_of: list[tuple[tuple[str, ...], frozenset[str], dict[str, str]]]
    ) -> None:
        """Write down what it was accepted for; any of several engines may have taken it."""
        each = len(record.body["targets"]) * (2 if record.body.get("prefetch") else 1)
        fitting = [plan for plan in plans_of if len(plan[0]) * each == record.total]
        if not fitting:
            self._rules.fail(f"{record.body} has a total of {record.total}, and was handed in for {plans_of}")
            return
        record.nodes, record.skipped, drivers = fitting[0]
        record.drivers = drivers if len(plans_of) == 1 else None
        if len(fitting) > 1:
            record.nodes = tuple(name for name in record.nodes if all(name in plan[0] for plan in fitting))

    async def _cancel(self, record: Record) -> None:
        record.is_cancel_asked = True
        engine = self._rng.choice(self._storm.engines)
        reply = await self.ask(engine, "DELETE", f"/v1/engine/task/{record.task_id}")
        self._storm.figures.faults["cancel"] += reply is not None and reply[0] == 200

    def _body(self) -> dict[str, Any]:
        rng = self._rng
        self._tasks += 1
        body: dict[str, Any] = {"id": f"task-{self._tasks}", "action": "purge", "kind": "url"}
        if rng.random() < 0.6:
            count = rng.randint(1, 3)
            body["targets"] = [f"{ONCE}{self._urls + number}" for number in range(count)]
            self._urls += count
        else:
            body["targets"] = rng.sample(plans.URLS, rng.randint(1, 2))
            body["kind"] = rng.choice(_KINDS)
            if body["kind"] != "url":
                body["targets"] = _wide(body["kind"], body["targets"])
        if body["kind"] == "url":
            drawn = rng.random()
            if drawn < 0.1:
                body["action"] = "prefetch"
            elif drawn < 0.2:
                body["prefetch"] = True
        if body["action"] == "purge" and rng.random() < 0.1:
            body["soft"] = True
        if rng.random() < 0.3:
            body["nodes"] = rng.choice([["edge-1"], ["parent-1", "edge-1"]])  # each engine knows these
        return body

    # Visitors

    async def visit(self) -> None:
        """Ask caches for URLs, until the storm is over."""
        while not self._storm.is_over:
            cache = self._rng.choice([*self._storm.caches.values()])
            url = self._rng.choice(plans.URLS) if self._rng.random() < 0.7 else f"{ONCE}{self._urls}"
            if cache.faults.door != "refused" and not cache.faults.hangs:
                await cache.get(url, "visitor")
            await asyncio.sleep(self._rng.random() * _PAUSE_S)


def plan_of(body: dict[str, Any], nodes: Any) -> tuple[tuple[str, ...], frozenset[str], dict[str, str]]:
    """Return which of an engine's nodes a task goes to, which it skips, and the driver of each."""
    drivers = {node["name"]: node["driver"] for node in nodes}
    wanted = [name for name in body.get("nodes", drivers) if name in drivers]
    able = tuple(name for name in wanted if can(drivers[name], body["kind"]))
    return able, frozenset(wanted) - {*able}, drivers


def _wide(kind: str, urls: list[str]) -> list[str]:
    hosts = sorted({url.split("/")[2] for url in urls})
    if kind == "host":
        return hosts
    if kind == "key":
        return sorted({key_of(url) for url in urls})
    return [f"http://{host}/x/" + ("[0-9]$" if kind == "regex" else "") for host in hosts]
