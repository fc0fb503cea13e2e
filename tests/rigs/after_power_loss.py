"""What a store holds after a power cut, and whether that is everything that was answered 202.

A task is there when the journal has it, with its plan, or when its document is there and with it everything
that the document counts on: the rows of a node that is away, the callback of a settled task.
"""

import contextlib
import json
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from engine.errors import EngineError
from engine.store.redis.keys import GROUP
from engine.store.redis.open import redis_store
from engine.store.sqlite.store import SqliteStore
from engine.store.store import Store
from engine.tasks.records import FIRST_PAGE, PageStart
from engine.tasks.words import FINAL_STATES
from tests.fakes.log_cache import LogCache
from tests.rigs.cluster_load import Task, never_came, wait_until_settled
from tests.rigs.engine_process import EngineProcess, fake_table, layer_tables
from tests.rigs.redis_servers import RedisServer

UP: Final = "edge-1"
AWAY: Final = "edge-2"  #: no purge has come to it when the power is cut
REGIONS: Final = 16
_ROWS_MAX: Final = 10_000_000
_CALLBACKS: Final = '[[callback]]\nhost = "127.0.0.1"\n'


class Answered(NamedTuple):
    """A task that was answered 202."""

    task: Task
    at: float  #: UNIX time
    has_callback: bool  #: it goes to `UP` alone, and its callback has nobody to take it


@dataclass
class Held:
    """What a store holds."""

    journal: set[str] = field(default_factory=set)  #: tasks that begin again
    without_plan: set[str] = field(default_factory=set)
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: Counter[str] = field(default_factory=Counter)  #: by task
    callbacks: set[str] = field(default_factory=set)

    def add(self, store: Store) -> None:
        """Add what an open store holds, read as an engine reads it."""
        for _, records in store.journal():
            plans = store.plans(records)
            self.journal.update(record.id for record in records)
            self.without_plan.update(record.id for record in records if record.plan not in plans)
        at: PageStart | None = FIRST_PAGE
        while at is not None:
            page, at = store.documents(None, at, 1000)
            for text in page:
                document = json.loads(text)
                self.documents[document["task_id"]] = document
        rows = store.parked_of(AWAY, _ROWS_MAX)
        counts = Counter(row.task_id for row in rows)
        self.rows = counts if store.is_shared else self.rows + counts
        self.callbacks.update(callback.task_id for callback in store.pending_callbacks())

    def missing(self, answered: Sequence[Answered]) -> list[str]:
        """Return what is not there of these tasks."""
        return [f"{one.task.id}: {why}" for one in answered if (why := self._missing(one))]

    def _missing(self, one: Answered) -> str:
        name = one.task.id
        if name in self.journal:
            return "its plan is missing" if name in self.without_plan else ""
        document = self.documents.get(name)
        if document is None:
            return "it is not there"
        if document["state"] in FINAL_STATES:
            if not one.has_callback:
                return f"it is {document['state']}, but {AWAY} never had it"
            return "" if name in self.callbacks else "its callback is missing"
        left = document["total"] - document["counter"]
        if self.rows[name] < left and document["state"] == "partial":
            return f"{left} subtasks are left, and {self.rows[name]} rows are there"
        return ""


def tables(away: str, up: str, store: str = "") -> str:
    """Return the configuration of an engine with both nodes at these URLs."""
    nodes = fake_table(up, name=UP) + fake_table(away, name=AWAY)
    return store + layer_tables("edge") + nodes + _CALLBACKS


class SqliteLeft:
    """The files of an engine after a power cut."""

    def __init__(self, folder: Path, workers: int) -> None:
        self._folder = folder
        self._workers = workers
        self.repaired = False

    def look(self) -> Held:
        """Open the files as an engine does.

        Raises:
            EngineError: an engine would not start on them.
        """
        held = Held()
        for number in range(max(1, self._workers)):
            path = self._folder / "var" / f"tasks-{number}.db"
            if path.exists():
                store = SqliteStore(path)
                store.open()
                try:
                    held.add(store)
                finally:
                    store.close()
        return held

    @contextlib.contextmanager
    def engine(self, home: Path, cache: LogCache) -> Iterator[EngineProcess]:
        """Start an engine on them."""
        engine = EngineProcess(
            home,
            tables(cache.url(0), cache.url(0)),
            workers=self._workers,
            data_dir=str(self._folder / "var"),
            drain_timeout_s=1,
        )
        with engine:
            yield engine


class RedisLeft:
    """The folder of a Redis after a power cut."""

    def __init__(self, folder: Path) -> None:
        self._server = RedisServer(folder.parent, name=folder.name, fsync="no")
        self._folder = folder
        self.repaired = False

    def look(self) -> Held:
        """Start Redis on it, and read it as an engine does.

        Raises:
            EngineError: Redis does not start, also not after ``redis-check-aof --fix``.
        """
        self._start()
        try:
            held = Held()
            for engine in self._engines() or ["nobody"]:
                store = redis_store(self._server.url, engine, region_count=REGIONS)
                store.open()
                try:
                    held.add(store)
                finally:
                    store.close()
            return held
        finally:
            self._server.kill()

    def _engines(self) -> list[str]:
        """Return the names by which engines have entries: each reads its own."""
        with self._server.client() as client:
            streams = client.scan_iter("*:tasks", _type="stream")
            return sorted({str(one["name"]) for key in streams for one in client.xinfo_consumers(key, GROUP)})

    def _start(self) -> None:
        try:
            self._server.start()
        except AssertionError:  # the tail has holes
            self._server.kill()
            self.repaired = True
            manifest = self._folder / "appendonlydir/appendonly.aof.manifest"
            command = ["redis-check-aof", "--fix", str(manifest)]
            subprocess.run(command, input=b"y\n", check=False, capture_output=True)
            try:
                self._server.start()
            except AssertionError as exc:
                self._server.kill()
                raise EngineError(f"Redis does not start: {self._server.log()[-500:]}") from exc

    @contextlib.contextmanager
    def engine(self, home: Path, cache: LogCache) -> Iterator[EngineProcess]:
        """Start Redis and an engine on it."""
        self._start()
        try:
            store = f'[store]\nurl = "{self._server.url}"\nregion_count = {REGIONS}\n'
            keys: dict[str, Any] = {"name": "after", "drain_timeout_s": 1}
            with EngineProcess(home, tables(cache.url(0), cache.url(0), store), **keys) as engine:
                yield engine
        finally:
            self._server.kill()


def work_through(left: SqliteLeft | RedisLeft, home: Path, answered: Sequence[Answered]) -> list[str]:
    """Start a whole engine on what is left, with all nodes back; return what does not come to its end."""
    with LogCache(AWAY) as cache, left.engine(home, cache) as engine:
        tasks = [one.task for one in answered]
        _, lost = wait_until_settled([engine.port], tasks, timeout_s=60)
        return lost + never_came([one.task for one in answered if not one.has_callback], [cache])
