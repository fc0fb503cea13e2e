"""Cases for a door that reads a Redis: entries and messages that are nearly right, and what must be so.

Every entry ends as a task, or set aside with a reason, and is acknowledged; as many tasks are stored as the
door has counted. Entries of its stream and messages on its channel come by turns: the memory of an engine
that has seen both grows no more.
"""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import redis

from tests.fuzz.cases import BODIES, cut
from tests.fuzz.wire import HangError
from tests.rigs.engine_process import EngineProcess
from tests.rigs.redis_door import CHANNEL, STREAM, Bus, redis_door_table
from tests.rigs.redis_servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fuzz.run import Report, Run

_CHECKED_EVERY: Final = 2000  #: cases; all that were published by then have to be over
_OVER_S: Final = 120.0
_SITE: Final = "img.example.com"
_MESSAGES: Final[tuple[dict[str, object], ...]] = (
    {"command": "purge", "host": _SITE, "value": ["/a", "/b?c=d"]},
    {"command": "xkey", "value": ["still", "flying"]},
    {"command": "xkey.soft", "host": _SITE, "value": ["a b,c"]},
    {"command": "ban.url", "host": _SITE, "value": ["^/news/", "(a|b)+$"]},
    {"command": "ban", "value": [f'req.http.host == {_SITE} && req.url ~ "^/a"', "obj.http.x-url == /a"]},
)
_VALUES: Final[tuple[object, ...]] = (
    *(
        None,
        True,
        0,
        -1,
        1e300,
        "",
        "a",
        "*",
        ".*",
        "/",
        "//",
        "\x00",
        "\ud800",
        "é",
        [],
        {},
        [[]],
        ["/"] * 200,
    ),
    *("(" * 60, "(a+)+$", "http://evil.example/", "evil.example", "a" * 9000, {"host": _SITE, "key": "a"}),
    *("req.url ~ \\", "&&", 'req.url ~ "', "req.http.host ~ ^(a|b)$", ["a"] * 10_001, 2**70, "purge", "xkey"),
    *([{"host": "x", "key": ""}], [None], "id.retry-1", "A" * 65, {"sample": 0}, {"urls": []}),
)
_NAMES: Final = (
    *("id", "targets", "kind", "action", "soft", "verify", "nodes", "layers", "confirm", "start_at"),
    *("command", "host", "value", "rebound_s", "", "\x00", "due_s", "callback", "literal"),
)


class BusCases:
    """Entries and messages; the same seed and number make the same."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def entry(self, number: int) -> list[bytes]:
        """Return the fields of an entry: names and values by turns."""
        chosen = random.Random(f"{self._seed}:entry:{number}")
        fields = [b"task", self._text(BODIES, chosen)]
        way = chosen.random()
        if way < 0.05:
            fields[0] = chosen.choice((b"", b"Task", b"body", b"\xff", b"t" * 500))
        elif way < 0.1:
            fields = [*fields, chosen.choice((b"task", b"other", b"\x00")), self._text(BODIES, chosen)]
        return fields

    def message(self, number: int) -> bytes:
        """Return a message."""
        return self._text(_MESSAGES, random.Random(f"{self._seed}:message:{number}"))

    def _text(self, good: tuple[dict[str, object], ...], chosen: random.Random) -> bytes:
        made = dict(chosen.choice(good))
        for _ in range(chosen.choice((0, 1, 1, 2))):
            made[chosen.choice((*_NAMES, *made))] = chosen.choice(_VALUES)
        text = json.dumps(made).encode()
        for _ in range(chosen.choice((0, 0, 1, 1, 3))):
            text = cut(text, chosen)
        return text


class BusEngine(EngineProcess):
    """An engine that reads a Redis, and that Redis."""

    def __init__(self, folder: Path, tables: str, server: RedisServer) -> None:
        door = redis_door_table(server.url, default_hosts=[_SITE], poison_max=10_000_000)
        super().__init__(folder, tables + door)
        self.bus = Bus(server)


@contextmanager
def bus_engine(folder: Path, tables: str) -> Iterator[BusEngine]:
    """Give an engine with a door on a Redis."""
    with RedisServer(folder, fsync="none") as server, BusEngine(folder, tables, server) as engine:
        yield engine


async def publish(fuzzed: Run, report: Report, engine: EngineProcess, seed: int, cases: int) -> None:
    """Publish cases, and check what comes of them."""
    assert isinstance(engine, BusEngine)
    work = _Publishing(engine, seed)
    await fuzzed.all(cases, work.one, 1)
    await work.wait_until_over(cases)
    for fault in work.faults(report):
        fuzzed.fault(cases, fault)


class _Publishing:
    """Publishes, and keeps count."""

    def __init__(self, engine: BusEngine, seed: int) -> None:
        self._engine = engine
        self._cases = BusCases(seed)
        self._client = redis.Redis(port=engine.bus.server.port)
        self._added = self._published = 0
        self._loop = asyncio.get_running_loop()

    async def one(self, number: int) -> None:
        if number % 2 == 0:
            fields = self._cases.entry(number)
            self._client.execute_command("XADD", STREAM, "*", *fields)  # type: ignore[no-untyped-call]
            self._added += 1
        else:
            heard = self._client.publish(CHANNEL, self._cases.message(number))
            assert heard == 1, "nobody hears the channel"
            self._published += 1
        if number % _CHECKED_EVERY == 0:
            await self.wait_until_over(number)
        elif number % 20 == 0:
            await asyncio.sleep(0)

    async def wait_until_over(self, number: int) -> None:
        until = self._loop.time() + _OVER_S
        while (over := self._over()) != (self._added, self._published):
            if self._loop.time() > until:
                raise HangError(f"of {self._added, self._published} published, {over} are over, at {number}")
            await asyncio.sleep(0.02)

    def _over(self) -> tuple[int, int]:
        ends = ("saved", "known", "refused", "too_old")
        counts = self._counts()
        entries, messages = (
            sum(counts.get((source, end), 0) for end in ends) for source in (STREAM, CHANNEL)
        )
        return entries, messages

    def _counts(self) -> dict[tuple[str, str], int]:
        found: dict[tuple[str, str], int] = {}
        for line in self._page().splitlines():
            if line.startswith("purgeline_redis_door_entries_total{"):
                source = line.partition('source="')[2].partition('"')[0]
                outcome = line.partition('outcome="')[2].partition('"')[0]
                found[source, outcome] = int(float(line.rpartition(" ")[2]))
        return found

    def _page(self) -> str:
        from tests.fuzz.run import metrics  # noqa: PLC0415 - which imports this

        return metrics(self._engine)

    def faults(self, report: Report) -> Iterator[str]:
        """Yield what should not have been, and note how entries and messages ended."""
        counts = self._counts()
        for (_, outcome), count in counts.items():
            status = {"saved": 202, "known": 200}.get(outcome)
            if status is not None:
                report.statuses[status] = report.statuses.get(status, 0) + count
        records = self._engine.bus.poison()
        for record in records:
            status = int(record["status"])
            report.statuses[status] = report.statuses.get(status, 0) + 1
            if not 400 <= status < 500 or not record["detail"]:
                yield f"set aside with {record!r}"
        refused = sum(count for (_, outcome), count in counts.items() if outcome == "refused")
        if len(records) != refused:
            yield f"{refused} are refused, {len(records)} set aside"
        group = self._engine.bus.group()
        if group["pending"] or group["lag"]:
            yield f"the group is not done: {group}"
        accepted = int(self._page().partition("\npurgeline_tasks_accepted_total ")[2].partition(".")[0])
        saved = counts.get((STREAM, "saved"), 0)
        if accepted < saved:
            yield f"{saved} entries are saved, {accepted} tasks stored"
