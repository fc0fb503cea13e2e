"""Clients of the root: they hand tasks in until it takes them, and read its documents without pause."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from tests.model.fleet.engines import TOKEN
from tests.model.fleet.reasons import ONCE
from tests.model.tree.places import LEAVES, REGIONS, below
from tests.model.tree.rules import TreeRecord

if TYPE_CHECKING:
    import random

    from tests.model.tree.storm import TreeStorm

HOST: Final = ONCE.split("/")[2]
_ANSWER_LIMIT_S: Final = 8.0
_PAUSE_S: Final = 0.6
_LOOK_S: Final = 0.005
_MANY: Final = 300  #: targets of a large task
_CANCELLED_SHARE: Final = 0.03


class TreeClients:
    """All of them.

    Args:
        storm: in which they live.
        rng: draws what they hand in.
    """

    def __init__(self, storm: TreeStorm, rng: random.Random) -> None:
        self._storm = storm
        self._rng = rng
        self._tasks = self._urls = 0
        self._looks: set[asyncio.Task[None]] = set()

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes] | None:
        """Ask the root; None: there was no answer."""
        root = self._storm.root
        try:
            async with asyncio.timeout(_ANSWER_LIMIT_S):
                reader, writer = await asyncio.open_connection(root.address, root.port)
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

    # Documents

    async def look(self, number: int, count: int) -> None:
        """See what became of tasks that are not over, for ever: as the *number*-th of *count*."""
        while True:
            records = self._storm.records()[number::count]
            for record in records:
                await self.see(record)
                await asyncio.sleep(_LOOK_S)
            if not records:
                await asyncio.sleep(_PAUSE_S)

    async def see(self, record: TreeRecord) -> bool:
        """See what became of a task, and whether caches serve what is new when it is done."""
        reply = await self.ask("GET", f"/v1/engine/task/{record.task_id}")
        if reply is None or reply[0] >= 500:
            return False
        storm = self._storm
        if reply[0] != 200:
            storm.rules.fail(f"lost: the root answers {reply} for {record}")
            return True
        storm.figures.seen["documents read"] += 1
        was_done = record.done_at is not None
        storm.rules.saw(record, json.loads(reply[1]), storm.now())
        if record.done_at is not None and not was_done:
            storm.done_after_s.append(record.done_at - record.sent_at)
            look = asyncio.get_running_loop().create_task(self._visit(record))
            self._looks.add(look)
            look.add_done_callback(self._looks.discard)
        return True

    async def _visit(self, record: TreeRecord) -> None:
        """See what the leaves of a task that is done serve."""
        url = record.body["targets"][0]
        wanted = self._storm.content_of(url)
        for leaf in self._storm.rules.leaves_of(record):
            body = await self._storm.caches[leaf].get(HOST, path_of(url))
            self._storm.rules.check_fresh(record, leaf, url, body, wanted)

    async def end(self) -> None:
        """Wait for the last looks."""
        await asyncio.gather(*self._looks)

    # Tasks

    async def hand_in(self) -> None:
        """Hand tasks in, until the storm is over."""
        while not self._storm.is_over:
            await self._hand_in(self._body())
            await asyncio.sleep(self._rng.random() * 2 * _PAUSE_S)

    async def _hand_in(self, body: dict[str, Any]) -> None:
        storm, seen = self._storm, self._storm.figures.seen
        leaves = tuple(below(body.get("nodes", [])))
        first = body["targets"][0]
        await asyncio.gather(*(storm.caches[leaf].get(HOST, path_of(first)) for leaf in leaves))
        storm.change(first)  # what they have is old now
        regions = tuple(name for name in REGIONS if any(leaf.startswith(name) for leaf in leaves))
        record = TreeRecord(body["id"], body, regions, frozenset(), {}, storm.now(), leaves=leaves)
        text = json.dumps(body).encode()
        while True:
            reply = await self.ask("POST", "/v1/engine/task", text)
            if reply is not None and reply[0] in {200, 202}:
                break
            seen["answers 503" if reply else "no answer"] += 1
            if reply is not None and reply[0] != 503:
                storm.rules.fail(f"{body} was answered {reply}")
                return
            if storm.has_ended:
                return
            await asyncio.sleep(0.1)
        seen["accepted"] += 1
        seen["targets accepted"] += len(body["targets"])
        record.is_accepted, record.total = True, json.loads(reply[1])["total"]
        if record.total != len(body["targets"]) * len(regions):
            storm.rules.fail(f"{record} has a total of {record.total}")
        storm.rules.records[record.task_id] = record
        if self._rng.random() < _CANCELLED_SHARE:
            record.is_cancel_asked = True
            reply = await self.ask("DELETE", f"/v1/engine/task/{record.task_id}")
            storm.figures.faults["cancel"] += reply is not None and reply[0] == 200

    def _body(self) -> dict[str, Any]:
        rng = self._rng
        self._tasks += 1
        count = _MANY if rng.random() < 0.02 else rng.randint(1, 3)
        targets = [f"{ONCE}{self._urls + number}" for number in range(count)]
        self._urls += count
        body: dict[str, Any] = {"id": f"task-{self._tasks}", "targets": targets}
        drawn = rng.random()
        if drawn < 0.1:
            body["nodes"] = [rng.choice(REGIONS)]
        elif drawn < 0.2:
            leaf = rng.choice(list(LEAVES))
            body["nodes"] = [f"{leaf.partition('-')[0]}/{leaf}"]
        return body


def path_of(url: str) -> str:
    """Return the path of a URL of the model."""
    return "/" + url.removeprefix(ONCE)
