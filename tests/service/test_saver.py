"""Savers: group commit, full backlogs, failing stores, and what is never given up."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from engine.errors import BacklogFullError, StoreError
from engine.saver.pool import SaverPool
from engine.saver.reader import StoreReader
from engine.saver.saver import Saver
from engine.saver.sinks import Sinks
from engine.store.sqlite.store import SqliteStore
from engine.tasks.records import Batch, Callback, Committed, Delivered, Depth, JournalKey, Parked
from engine.tasks.task import Task
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path


class GatedStore(SqliteStore):
    """A real store that can be held up, and can fail, by order of the test."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Semaphore(0)
        self.fail_at = 0
        self.failing = ""
        self.batches: list[Batch] = []
        self.forgotten: list[float] = []

    def commit(self, batch: Batch) -> Committed:
        self.begun.release()
        assert self.gate.wait(30)
        self.fail_at -= 1
        if not self.fail_at:
            raise StoreError("this once")
        if self.failing == "raise":
            raise ZeroDivisionError
        if self.failing and self.failing != "forget":
            raise StoreError(self.failing)
        self.batches.append(msgspec.structs.replace(batch))
        return super().commit(batch)

    def forget(self, before_at: float, limit: int) -> int:
        self.forgotten.append(before_at)
        if self.failing == "forget":
            raise StoreError("no")
        return super().forget(before_at, limit)


class Rig:
    """A saver on a store in a folder, and what it told."""

    def __init__(
        self,
        folder: Path,
        *,
        backlog_count: int = 100,
        push_timeout_s: float = 0.05,
        has_peers: bool = False,
    ) -> None:
        self.store = GatedStore(folder / "tasks-0.db")
        self.store.open()
        self.told: dict[str, tuple[JournalKey, Exception | None]] = {}
        self.known: dict[str, str] = {}
        self.saved: list[tuple[str, int]] = []
        self.callbacks: list[Callback] = []
        self.states: list[StoreError | None] = []
        self.news = asyncio.Event()
        self.saver = Saver(
            self.store,
            asyncio.get_running_loop(),
            Sinks(
                accepted=self._accepted,
                known=self._known,
                saved=lambda task, version: self.saved.append((task.id, version)),
                callbacks=self.callbacks.extend,
                state=self._state,
            ),
            backlog_count=backlog_count,
            push_timeout_s=push_timeout_s,
            has_peers=has_peers,
        )
        self.saver.start()

    def _accepted(self, task: Task, key: JournalKey, error: Exception | None) -> None:
        assert task.id not in self.told, "told twice"
        self.told[task.id] = (key, error)
        self.news.set()

    def _known(self, task: Task, digest: str, document: bytes) -> None:
        self.known[task.id] = digest
        self.news.set()

    def _state(self, error: StoreError | None) -> None:
        self.states.append(error)
        self.news.set()

    async def until(self, condition: Callable[[], Any]) -> None:
        await until(condition, news=self.news, timeout_s=30)

    async def in_commit(self) -> None:
        """Wait until the thread is in the store."""
        async with asyncio.timeout(30):
            await asyncio.to_thread(self.store.begun.acquire)

    def stored_ids(self) -> list[str]:
        return [record.id for _, records in self.store.journal() for record in records]


@contextlib.asynccontextmanager
async def rig_in(folder: Path, **options: Any) -> AsyncIterator[Rig]:
    rig = Rig(folder, **options)
    try:
        yield rig
    finally:
        rig.store.gate.set()
        rig.saver.stop()
        rig.store.close()


def task(name: str, *, digest: bytes = b"", body: bytes = b"{}") -> Task:
    made = Task.internal(["http://a/"], owner=None, task_id=name)
    made.body, made.digest, made.due_s = body, digest, 60.0
    return made


def row(target: str) -> Parked:
    return Parked("n", 1, target, "t", "", 1.0)


async def test_a_pushed_task_is_told_of_after_it_is_on_disk(tmp_path: Path) -> None:
    async with rig_in(tmp_path) as rig:
        rig.saver.push(task("a"))
        assert len(rig.saver) == 1
        await rig.until(lambda: rig.told)
        assert rig.told == {"a": (1, None)}
        assert rig.stored_ids() == ["a"]
        assert len(rig.saver) == 0


async def test_what_comes_during_a_commit_goes_together_in_the_next(tmp_path: Path) -> None:
    async with rig_in(tmp_path) as rig:
        rig.store.gate.clear()
        rig.saver.push(task("first"))
        await rig.in_commit()
        for number in range(50):
            rig.saver.push(task(f"t{number}"))
        assert len(rig.saver) == 51
        rig.store.gate.set()
        await rig.until(lambda: len(rig.told) == 51)
        assert [len(batch.accepted) for batch in rig.store.batches] == [1, 50]
        assert rig.stored_ids() == ["first", *(f"t{number}" for number in range(50))]
        assert len({seq for seq, _ in rig.told.values()}) == 2


async def test_what_is_pushed_in_one_turn_of_the_loop_shares_a_batch(tmp_path: Path) -> None:
    async with rig_in(tmp_path) as rig:
        for number in range(20):
            rig.saver.push(task(f"t{number}"))
        await rig.until(lambda: len(rig.told) == 20)
        assert len(rig.store.batches) == 1


@pytest.mark.parametrize("failing", ["", "disk full"])
async def test_between_the_answers_of_a_large_batch_others_have_their_turn(
    tmp_path: Path, failing: str
) -> None:
    """Each turn of the loop tells a bounded part; the next batch follows the last of them."""
    async with rig_in(tmp_path, backlog_count=5000) as rig:
        loop = asyncio.get_running_loop()
        told_before: list[int] = []

        def turn() -> None:
            told_before.append(len(rig.told))
            if len(rig.told) < 2501:
                loop.call_soon(turn)

        rig.store.failing = failing
        loop.call_soon(turn)
        for number in range(2500):
            rig.saver.push(task(f"t{number}"))
        await rig.in_commit()
        rig.saver.push(task("next"))
        await rig.until(lambda: len(rig.told) == 2501)
        in_a_turn = [after - before for before, after in itertools.pairwise(told_before)]
        assert max(in_a_turn) <= 1000
        assert list(rig.told) == [f"t{number}" for number in range(2500)] + ["next"]
        assert await rig.saver.drain(5)


async def test_a_full_backlog_refuses_after_the_push_timeout_and_keeps_the_rest(tmp_path: Path) -> None:
    async with rig_in(tmp_path, backlog_count=3) as rig:
        rig.store.gate.clear()
        rig.saver.push(task("writing"))
        await rig.in_commit()
        for number in range(5):
            rig.saver.push(task(f"t{number}"))
        assert rig.told == {}
        await rig.until(lambda: len(rig.told) == 2)
        for name in ("t3", "t4"):
            seq, error = rig.told[name]
            assert seq == 0
            assert isinstance(error, BacklogFullError)
            assert error.backlog == "saver_queue"
        rig.store.gate.set()
        await rig.until(lambda: len(rig.told) == 6)
        assert rig.stored_ids() == ["writing", "t0", "t1", "t2"]


async def test_room_in_time_lets_waiting_tasks_in_and_in_order(tmp_path: Path) -> None:
    async with rig_in(tmp_path, backlog_count=2, push_timeout_s=30) as rig:
        rig.store.gate.clear()
        names = [f"t{number}" for number in range(9)]
        for name in names:
            rig.saver.push(task(name))
        rig.store.gate.set()
        await rig.until(lambda: len(rig.told) == 9)
        assert all(error is None for _, error in rig.told.values())
        assert rig.stored_ids() == names


async def test_an_id_that_is_stored_is_told_as_known(tmp_path: Path) -> None:
    async with rig_in(tmp_path) as rig:
        rig.store.commit(Batch(documents={"a": b'{"digest":"abcd"}'}))
        rig.saver.push(task("a", digest=b"x"))
        rig.saver.push(task("b", digest=b"x"))
        await rig.until(lambda: rig.told and rig.known)
        assert rig.known == {"a": "abcd"}
        assert list(rig.told) == ["b"]


@pytest.mark.parametrize("failing", ["no space left", "raise"])
async def test_a_failing_store_refuses_clients_and_works_again_without_restart(
    tmp_path: Path, failing: str
) -> None:
    async with rig_in(tmp_path) as rig:
        rig.store.failing = failing
        rig.saver.push(task("a"))
        await rig.until(lambda: rig.told)
        assert isinstance(rig.told["a"][1], StoreError)
        assert isinstance(rig.states[0], StoreError)
        assert SaverPool([rig.saver]).error is rig.states[0]
        rig.saver.push(task("b"))
        await rig.until(lambda: "b" in rig.told)
        assert len(rig.states) == 1, "said again"
        rig.store.failing = ""
        rig.saver.push(task("c"))
        await rig.until(lambda: "c" in rig.told and len(rig.states) == 2)
        assert rig.told["c"][1] is None
        assert rig.states[1] is None
        assert SaverPool([rig.saver]).error is None
        assert rig.stored_ids() == ["c"]


async def test_the_engines_own_records_survive_a_failing_store_in_their_order(tmp_path: Path) -> None:
    async with rig_in(tmp_path) as rig:
        order: list[str] = []
        rig.store.failing = "disk full"
        rig.saver.park([row("x/1"), row("x/2")], lambda: order.append("first"))
        rig.saver.save(task("t"), b'{"state":"partial"}', 1)
        await rig.until(lambda: rig.states)
        rig.saver.park([row("x/3")], lambda: order.append("second"))
        rig.saver.save(task("t"), b'{"state":"done"}', 2, Callback(0, "t", "http://hook/", "{}"))
        rig.saver.push(task("client"))
        await rig.until(lambda: rig.told)
        assert isinstance(rig.told["client"][1], StoreError)
        assert len(rig.saver) >= 5
        rig.store.failing = ""
        assert await rig.saver.drain(30)
        assert [found.target for found in rig.store.oldest_parked("n", 10)] == ["x/1", "x/2", "x/3"]
        assert rig.store.document("t") == b'{"state":"done"}'
        assert order == ["first", "second"]
        assert rig.saved == [("t", 1), ("t", 2)]
        assert [callback.task_id for callback in rig.callbacks] == ["t"]
        assert rig.stored_ids() == []
        assert rig.states[-1] is None
        assert len(rig.saver) == 0


async def test_every_kind_of_own_record_is_written(tmp_path: Path) -> None:
    async with rig_in(tmp_path) as rig:
        rig.store.commit(Batch(documents={"old": b'{"updated_at":1,"state":"done"}'}))
        rig.saver.push(task("a"))
        await rig.until(lambda: rig.told)
        rig.saver.park([row("x"), row("y"), Parked("n", 1, "z", "u", "", 1.0)], lambda: None)
        rig.saver.report(Callback(0, "a", "http://hook/", "{}"))
        rig.saver.save(task("a"), b'{"updated_at":9,"state":"partial"}', 1)
        assert await rig.saver.drain(30)
        rig.saver.deliver(delivered(rig.store), lambda: None)
        rig.saver.unpark_task("u", lambda: None)
        rig.saver.settle_journal(rig.told["a"][0])
        rig.saver.callback_over(rig.callbacks[0].key)
        rig.saver.forget(5.0)
        done = asyncio.Event()
        rig.saver.after_all(done.set)
        async with asyncio.timeout(30):
            await done.wait()
        assert [found.target for found in rig.store.oldest_parked("n", 10)] == ["y"]
        assert rig.store.pending_callbacks() == []
        assert rig.store.count() == {"settled": 1, "journal_rows": 0}
        assert rig.store.document("old") is None


async def test_a_batch_counts_as_written_even_when_forgetting_fails(tmp_path: Path) -> None:
    async with rig_in(tmp_path) as rig:
        rig.store.failing = "forget"
        rig.saver.forget(5.0)
        rig.saver.park([row("x")], lambda: None)
        rig.saver.push(task("a"))
        assert await rig.saver.drain(30)
        assert rig.store.forgotten == [5.0]
        assert [found.target for found in rig.store.oldest_parked("n", 10)] == ["x"]
        assert rig.told["a"][1] is None
        assert rig.states == []


async def test_draining_waits_for_what_is_being_written_and_gives_up_in_time(tmp_path: Path) -> None:
    async with rig_in(tmp_path) as rig:
        assert await rig.saver.drain(30)
        rig.store.gate.clear()
        rig.saver.push(task("a"))
        rig.saver.park([row("x")], lambda: None)
        assert not await rig.saver.drain(0.05)
        rig.store.gate.set()
        assert await rig.saver.drain(30)
        assert rig.stored_ids() == ["a"]
        assert len(rig.saver) == 0


async def test_flushed_returns_when_all_that_was_queued_before_is_written(tmp_path: Path) -> None:
    async with rig_in(tmp_path) as rig:
        rig.saver.save(task("t"), b'{"state":"done"}', 1)
        await rig.saver.flushed(30)
        assert rig.store.document("t") == b'{"state":"done"}'
        await SaverPool([rig.saver]).flushed()


async def test_flushed_tells_that_the_store_is_too_slow_or_why_it_fails(tmp_path: Path) -> None:
    async with rig_in(tmp_path) as rig:
        rig.store.gate.clear()
        with pytest.raises(StoreError, match="the store did not write in time"):
            await rig.saver.flushed(0.01)
        rig.store.failing = "disk full"
        rig.store.gate.set()
        await rig.until(lambda: rig.states)
        with pytest.raises(StoreError, match="disk full"):
            await rig.saver.flushed(0.01)


async def test_rows_are_counted_at_the_moment_between_two_commits(tmp_path: Path) -> None:
    """Nothing that is queued later is in the count, nor in what is known at that moment."""
    async with rig_in(tmp_path) as rig:
        written: list[str] = []
        pinned = asyncio.ensure_future(rig.saver.pinned(written.copy, 30))
        rig.saver.park([row("x/1")], lambda: written.append("x/1"))
        await rig.in_commit()
        rig.saver.park([row("x/2")], lambda: written.append("x/2"))
        pin, known = await pinned
        await rig.saver.flushed(30)
        assert known == ["x/1"]
        assert pin("n") == 1
        assert rig.store.depth("n").count == 2


async def test_a_saver_with_peers_knows_which_journal_rows_are_its_own(tmp_path: Path) -> None:
    async with rig_in(tmp_path, has_peers=True) as rig:
        rig.saver.push(task("a"))
        await rig.until(lambda: rig.told)
        key, _ = rig.told["a"]
        assert rig.saver.has_row(key)
        assert not rig.saver.has_row(99)
        rig.saver.add_row(99)
        assert rig.saver.has_row(99)
        rig.saver.settle_journal(key)
        assert not rig.saver.has_row(key)


async def test_the_reader_passes_results_and_errors_on(tmp_path: Path) -> None:
    async with rig_in(tmp_path) as rig:
        reader = StoreReader(1)
        assert await reader.read(rig.store.depth, "n") == Depth(0, 0.0)
        rig.store.close()
        with pytest.raises(StoreError):
            await reader.read(rig.store.commit, Batch(is_probe=True))
        reader.close()


async def test_stopping_ends_the_thread_after_its_batch(tmp_path: Path) -> None:
    async with rig_in(tmp_path) as rig:
        rig.saver.push(task("a"))
        await rig.until(lambda: rig.told)
        rig.saver.stop()
        assert not rig.saver._committer._running.is_alive()
        assert rig.stored_ids() == ["a"]


async def test_large_bodies_are_split_into_several_batches(tmp_path: Path) -> None:
    async with rig_in(tmp_path) as rig:
        for number in range(5):
            rig.saver.push(task(f"t{number}", body=b"x" * (8 * 1024 * 1024)))
        await rig.until(lambda: len(rig.told) == 5)
        assert [len(batch.accepted) for batch in rig.store.batches] == [4, 1]


async def test_a_tasks_saver_is_always_the_same_and_all_are_used(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        savers = []
        for number in range(3):
            folder = tmp_path / str(number)
            folder.mkdir()
            savers.append((await stack.enter_async_context(rig_in(folder))).saver)
        pool = SaverPool(savers)
        chosen = {f"t{number}": pool.of(f"t{number}") for number in range(100)}
        assert set(chosen.values()) == set(savers)
        assert all(pool.of(name) is saver for name, saver in chosen.items())
        assert len(pool) == 0
        assert pool.error is None


def delivered(store: SqliteStore) -> list[Delivered]:
    """Return the oldest row of node "n" as delivered, to a task that knows."""
    return [Delivered(row, "edge", 2.0, is_told=True) for row in store.oldest_parked("n", 1)]


def written(number: int) -> bytes:
    return b'{"updated_at":%d,"state":"done"}' % number


@pytest.mark.parametrize("fail_at", [0, 1, 2, 3])
async def test_many_documents_are_written_in_parts_and_what_follows_them_with_the_last(
    tmp_path: Path, fail_at: int
) -> None:
    """Also when the store fails in between: nothing lost, nothing before its time."""
    async with rig_in(tmp_path) as rig:
        told: list[str] = []
        rig.saver.park([row("x")], lambda: None)
        assert await rig.saver.drain(30)
        rows = delivered(rig.store)
        rig.store.batches.clear()
        rig.store.fail_at = fail_at
        names = [f"t{number}" for number in range(10_000)]
        for number, name in enumerate(names):
            callback = Callback(0, name, "http://hook/", "{}") if number % 1000 == 7 else None
            rig.saver.save(task(name), written(number), 1, callback)
        rig.saver.deliver(rows, lambda: told.append("unparked"))
        rig.saver.settle_journal(1)
        rig.saver.after_all(lambda: told.append("after all"))
        if fail_at:
            await rig.until(lambda: len(rig.states) == 1)
        rig.saver.save(task("t0"), written(77), 2)
        assert await rig.saver.drain(30)
        assert all(len(batch.documents) <= 4000 for batch in rig.store.batches)
        ids = [name for batch in rig.store.batches for name in batch.documents]
        assert set(ids) == set(names)
        assert rig.store.document("t0") == written(77)
        assert rig.store.document("t9999") == written(9999)
        with_rows = [batch for batch in rig.store.batches if batch.delivered]
        assert len(with_rows) == 1
        place = rig.store.batches.index(with_rows[0])
        assert len({name for batch in rig.store.batches[: place + 1] for name in batch.documents}) == 10_000
        assert with_rows[0].settled_journal == [1]
        for batch in rig.store.batches:
            assert {callback.task_id for callback in batch.callbacks} <= set(batch.documents)
        assert len(rig.store.pending_callbacks()) == 10
        assert rig.store.depths() == {}
        assert told == ["unparked", "after all"]
        assert sorted(rig.saved) == sorted([*((name, 1) for name in names), ("t0", 2)])
        assert len(rig.saver) == 0


async def test_forgetting_goes_on_until_nothing_old_is_left(tmp_path: Path) -> None:
    """More than one round takes, within seconds, asked for once."""
    async with rig_in(tmp_path) as rig:
        for start in (0, 1):
            names = (f"t{number}" for number in range(start * 6000, start * 6000 + 6000))
            rig.store.commit(Batch(documents=dict.fromkeys(names, written(1))))
        rig.store.commit(Batch(documents={"young": written(900)}))
        rig.saver.forget(500.0)
        async with asyncio.timeout(30):
            while rig.store.count()["settled"] > 1:  # noqa: ASYNC110 - the saver tells nobody
                await asyncio.sleep(0.01)
        assert rig.store.document("young") is not None
        assert len(rig.store.forgotten) >= 3
