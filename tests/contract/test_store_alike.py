"""Redis does what SQLite does, in any course of events: random batches go to both, and they hold the same."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from engine.store.redis.open import redis_store
from engine.store.sqlite.store import SqliteStore
from engine.tasks.records import Accepted, Batch, Callback, Delivered, JournalKey, Parked, ParkedRow
from engine.tasks.words import Operation
from tests.rigs.redis_servers import RedisCluster, RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from engine.store.store import Store

pytestmark = pytest.mark.redis

STEPS = 150
NODES = ("p1", "e1", "e2")
OPERATIONS = (Operation.PURGE_URL, Operation.SOFT_URL, Operation.PURGE_PREFIX, Operation.PREFETCH)
TARGETS = [f"http://a.com/{name}" for name in ("", "img/", "img/1", "img/2", "x y", "ü")]

_clock = itertools.count(1)


@pytest.fixture(scope="module", params=["redis", "cluster"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    kind = {"redis": RedisServer, "cluster": RedisCluster}[request.param]
    with kind(tmp_path_factory.mktemp(request.param)) as servers:
        yield servers.url


class Side:
    """One store, and what only it calls things by."""

    def __init__(self, make: Callable[[], Store]) -> None:
        self._make = make
        self.store = make()
        self.store.open()
        self.rows_of: dict[str, JournalKey] = {}  #: task → journal row
        self.callbacks: dict[tuple[str, str], int | str] = {}

    def close(self) -> None:
        self.store.close()

    def reopen(self) -> None:
        self.store.close()
        self.store = self._make()
        self.store.open()

    def commit(self, batch: Batch) -> Any:
        """Write, and return what was answered, without the names that are the store's own."""
        done = self.store.commit(batch)
        assert done.own_error is None
        assert done.lost == set()
        bodies = []
        for one in done.callbacks:
            text = json.dumps(json.loads(one.body), sort_keys=True) if one.body[0] == "{" else one.body
            self.callbacks[(one.task_id, text)] = one.key
            bodies.append((one.task_id, one.url, text))
        return sorted(document["state"] for document in done.settled_late), sorted(bodies)

    def parked(self) -> dict[tuple[Any, ...], ParkedRow]:
        """Return every row by what it is."""
        return {
            (node, row.operation, row.task_id, row.target): row
            for node in self.store.depths()
            for row in self.store.parked_of(node, 10_000)
        }

    def content(self, stored: set[str]) -> dict[str, Any]:
        store = self.store
        texts = {name: store.document(name) for name in stored}
        depths = store.depths()
        return {
            "documents": {name: text and json.loads(text) for name, text in texts.items()},
            "rows": sorted(self.parked()),
            "depths": {node: depth.count for node, depth in depths.items()},
            "ready": {node: _names(store.oldest_parked(node, 10_000)) for node in NODES},
            "purges": {node: _names(store.oldest_parked(node, 10_000, purges_only=True)) for node in NODES},
            "wide": {node: _names(store.wide_parked(node)) for node in NODES},
            "behind": sorted(store.nodes_behind()),
            "journal": sorted(record.id for _, records in store.journal() for record in records),
            "callbacks": sorted(one.task_id for one in store.pending_callbacks()),
            "settled": store.count()["settled"],
        }


def _names(rows: list[ParkedRow]) -> list[tuple[Any, ...]]:
    return sorted((row.operation, row.task_id, row.target) for row in rows)


class Course:
    """A random course of events, the same for both stores."""

    def __init__(self, seed: int, sides: list[Side]) -> None:
        self.random = random.Random(seed)
        self.sides = sides
        self.live: set[str] = set()
        self.stored: set[str] = set()
        self.late: set[str] = set()  #: tasks that have, or had, rows
        self.numbers = itertools.count(1)

    def step(self) -> str:
        """Let something happen to both, which have to answer the same; return what."""
        events = [self.accept, self.settle, self.settle, self.deliver, self.deliver, self.cancel]
        event = self.random.choice([*events, self.call_back, self.restart])
        answers = event()
        assert all(answer == answers[0] for answer in answers), (event.__name__, answers)
        return event.__name__

    def accept(self) -> list[Any]:
        digest = self.random.choice([b"", b"d"])
        names = [f"t{next(self.numbers)}" for _ in range(self.random.randint(1, 4))]
        records = [Accepted(name, 1000.0 + next(_clock), 60.0, digest, b"{}") for name in names]
        self.live |= set(names)
        if self.stored and digest:
            records.append(Accepted(self.random.choice(sorted(self.stored)), 1.0, 1.0, b"d", b"{}"))
        answers = []
        for side in self.sides:
            done = side.store.commit(Batch(accepted=[*records]))
            for record, key in zip(records, done.journal, strict=True):
                if record.id not in done.known:
                    side.rows_of[record.id] = key
            answers.append({name: (known[0], json.loads(known[1])) for name, known in done.known.items()})
        return answers

    def settle(self) -> list[Any]:
        """Settle a task, perhaps only as far as unreachable nodes let it."""
        if not self.live:
            return []
        name = self.random.choice(sorted(self.live))
        self.live.remove(name)
        self.stored.add(name)
        rows = self._rows(name) if self.random.random() < 0.6 else []
        document = self._document(name, len(rows))
        callbacks = []
        if rows:
            self.late.add(name)
        elif self.random.random() < 0.3:
            callbacks.append(Callback(0, name, "http://hook/", f"{name} done"))
        answers = []
        for side in self.sides:
            key = side.rows_of.pop(name)
            batch = Batch(documents={name: document}, parked=[*rows], callbacks=[*callbacks])
            batch.settled_journal = [] if key in side.rows_of.values() else [key]
            answers.append(side.commit(batch))
        return answers

    def deliver(self) -> list[Any]:
        there = sorted(self.sides[0].parked())
        chosen = self.random.sample(there, min(len(there), self.random.randint(1, 5)))
        reasons = {one: self.random.choice(["", "", "", "refused"]) for one in chosen}
        at = 3000.0 + next(_clock)
        answers = []
        for side in self.sides:
            rows = side.parked()
            delivered = [Delivered(rows[one], "edge", at, reasons[one]) for one in chosen]
            answers.append(side.commit(Batch(delivered=delivered)))
        return answers

    def cancel(self) -> list[Any]:
        if not self.late:
            return []
        name, at = self.random.choice(sorted(self.late)), 4000.0 + next(_clock)
        return [side.commit(Batch(cancelled={name: at}, unparked_tasks=[name])) for side in self.sides]

    def call_back(self) -> list[Any]:
        keys = [sorted(side.callbacks) for side in self.sides]
        if keys[0]:
            gone = self.random.choice(keys[0])
            for side in self.sides:
                side.commit(Batch(callbacks_over=[side.callbacks.pop(gone)]))
        return keys

    def restart(self) -> list[Any]:
        for side in self.sides:
            side.reopen()
        return []

    def _document(self, name: str, delayed: int) -> bytes:
        layer = {"name": "edge", "total": delayed + 1, "counter": 1, "failed": 0, "delayed": delayed}
        made: dict[str, Any] = {
            "task_id": name,
            "state": "partial" if delayed else "done",
            "active": bool(delayed),
            "working_layer": None,
            "counter": 1,
            "failed": 0,
            "delayed": delayed,
            "layers": [layer],
            "errors": [],
            "created_at": 1000.0 + next(_clock),
            "updated_at": 1000.0,
            "digest": "64",
        }
        if self.random.random() < 0.5:
            made["callback"] = "http://hook/"
        return json.dumps(made).encode()

    def _rows(self, name: str) -> list[Parked]:
        found = {}
        for _ in range(self.random.randint(1, 8)):
            node, operation = self.random.choice(NODES), self.random.choice(OPERATIONS)
            target = self.random.choice(TARGETS)
            after = self.random.choice(["", "", "p1", "p1,e1", "p1:f"]) if node != "p1" else ""
            row = Parked(node, int(operation), target, name, after, 2000.0 + next(_clock))
            found[(node, operation, target)] = row
        return list(found.values())


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 6))]
)
def test_any_course_of_events_leaves_the_same(tmp_path: Path, url: str, seed: int) -> None:
    make: list[Callable[[], Store]] = [
        lambda: SqliteStore(tmp_path / "tasks-0.db"),
        lambda: redis_store(url, "engine", region_count=3, prefix=f"alike-{seed}"),
    ]
    with contextlib.ExitStack() as stack:
        sides = [stack.enter_context(contextlib.closing(Side(one))) for one in make]
        course = Course(seed, sides)
        for number in range(STEPS):
            event = course.step()
            if number % 5 == 4:
                contents = [side.content(course.stored) for side in sides]
                for part, held in contents[0].items():
                    assert contents[1][part] == held, (number, event, part)
