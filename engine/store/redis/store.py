"""The shared store: one Redis, single, watched by sentinels or a cluster, for any number of engines.

A batch is one pipeline, a few scripts per region (`scripts`). What makes it safe without a
transaction over regions is that every part can be repeated: an entry is acknowledged only after the
documents of its tasks were written, rows come with the document that counts them and go with the one that
counts them off, and a document is only replaced by who owns the task. An entry whose commit seemed to fail
may have been stored all the same; it is found later as one that this engine has and does not know of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from engine.errors import StoreError, StoreUnusableError
from engine.store.history import HistoryLimits
from engine.store.redis import host_rows
from engine.store.redis.changes import DocumentChanges, digest_of
from engine.store.redis.commit import RedisCommit
from engine.store.redis.documents import RedisDocuments
from engine.store.redis.history import RegionHistory
from engine.store.redis.journal import RedisJournal
from engine.store.redis.keys import GROUP, Keys
from engine.store.redis.queues import RedisQueues
from engine.store.redis.records import bare_document, bare_task, journal_key
from engine.store.redis.scripts import FORGET
from engine.tasks import stored_documents
from engine.tasks.records import Batch, Callback, Committed
from engine.tasks.words import FINAL_STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from engine.store.redis.link import Link
    from engine.tasks.records import Accepted
    from engine.tasks.task import Task

_decode = msgspec.json.decode


class RedisStore(RedisQueues, RedisDocuments, RedisJournal):
    """The store as one engine sees it.

    Args:
        link: to the servers.
        keys: names.
        consumer: name of this engine process in the consumer groups, never used by another.
        retention_s: settled tasks are kept so long.
        history: how much of the history is kept, in all regions; None: nothing.
        describe: see `RedisDocuments`.
        task_of: see `RedisJournal`.
    """

    is_shared = True

    def __init__(
        self,
        link: Link,
        keys: Keys,
        consumer: str,
        *,
        retention_s: float = 3 * 86400,
        history: HistoryLimits | None = None,
        describe: Callable[[Accepted, bytes], bytes] = bare_document,
        task_of: Callable[[Accepted, bytes], Task] = bare_task,
    ) -> None:
        super().__init__(link, keys)
        self.consumer = consumer
        self.describe = describe
        self.task_of = task_of
        self._retention_ms = max(1000, int(retention_s * 1000))
        self._forget_from: dict[int, int] = {}
        self._is_open = False
        self.times_emptied = 0  #: so often was it found to hold nothing of ours
        self.histories: Sequence[RegionHistory] = ()
        if history is not None and history.keep_s:
            each = HistoryLimits(history.keep_s, history.max_bytes // keys.count)
            self.histories = [RegionHistory(link, keys, region, each) for region in range(keys.count)]
        self.changes = DocumentChanges(self, self, consumer, self.ms_of, self.histories)

    def __repr__(self) -> str:
        return f"<RedisStore of {self.consumer} at {self.link.url}>"

    def open(self, *, is_in_use: bool = False) -> None:
        """See `Store.open`. Others may have it open, now or later."""
        self._claim_layout()
        self._make_groups()
        self._begin_histories()
        self._is_open = True

    def _claim_layout(self) -> None:
        layout = self.keys.cluster("layout")
        wanted = f"region_count={self.keys.count}"
        self.link.one("SET", layout, wanted, "NX", is_write=True)
        written = (self.link.one("GET", layout) or b"").decode()
        if written != wanted:
            raise StoreUnusableError(
                f"{self.link.url} is of engines with {written}, and that says where a task is: it cannot be "
                f"{wanted} there; set store.region_count, or another store.prefix"
            )

    def mend(self) -> None:
        """Make what all regions need again: somebody emptied Redis, or it came back without its data.

        Raises:
            StoreError: it cannot be written, or another number of regions is there by now.
        """
        self.times_emptied += 1
        self._claim_layout()
        self._make_groups()
        self._begin_histories()

    def _begin_histories(self) -> None:
        commands = [command for part in self.histories for command in part.begin()]
        if commands:
            self.link.run(commands, is_write=True)

    def _make_groups(self) -> None:
        replies = self.link.run(
            [("XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM") for stream in self.keys.streams],
            is_write=True,
        )
        for reply in replies:
            if isinstance(reply, StoreError) and "BUSYGROUP" not in str(reply):
                raise reply

    def tidy(self) -> None:
        """See `Store.tidy`."""
        for part in self.histories:
            part.tidy()

    def shrink(self) -> None:
        """See `Store.shrink`: there is none."""

    def close(self) -> None:
        """See `Store.close`."""
        self._is_open = False
        self.link.close()

    # Writing

    def commit(self, batch: Batch) -> Committed:
        """See `Store.commit`."""
        if not self._is_open:
            raise StoreError(f"{self.link.url}: the store is closed")
        done = Committed(journal=[""] * len(batch.accepted))
        work = self._write(batch, done)
        if work.has_lost_groups:
            self.mend()
            done = Committed(journal=[""] * len(batch.accepted))
            work = self._write(batch, done)
        if batch.delivered or batch.cancelled or batch.unparked_tasks or batch.noted:
            left: Batch | None = batch
            try:
                left = self.changes.write(batch, done)
            except StoreError as exc:
                done.own_error = exc
                done.stuck.update(one.row.task_id for one in batch.delivered)
                done.stuck.update(batch.unparked_tasks)
            if left is not None:
                work.left.delivered = left.delivered
                work.left.cancelled = left.cancelled
                work.left.unparked_tasks = left.unparked_tasks
                work.left.noted = left.noted
        if batch.told:
            work.left.told = self.changes.tell(batch.told, done)
        if batch.joined or batch.parted:
            done.own_error = host_rows.write(self.link, self.keys, batch, work.left) or done.own_error
        if done.own_error is not None:
            done.left = work.left
        error = done.own_error or next(iter(done.refused.values()), None)
        if (
            error is not None
            and len(done.refused) == len(batch.accepted)
            and (done.own_error is not None or batch.is_accept_only)
            and not self._works_in_part()
        ):
            raise error
        return done

    def _write(self, batch: Batch, done: Committed) -> RedisCommit:
        work = RedisCommit(self, self.consumer, self.ms_of, batch, done, histories=self.histories)
        work.write()
        return work

    def _works_in_part(self) -> bool:
        """Tell whether some server of a cluster answers, though those that a batch needed did not."""
        if self.link.url.kind != "cluster":
            return False
        replies = self.link.run([("EXISTS", f"{tag}probe") for tag in self.keys.tags])
        return not all(isinstance(reply, StoreError) for reply in replies)

    def ms_of(self, state: str) -> int:
        """Return how long a document in *state* is kept, in milliseconds; 0: until it changes."""
        return self._retention_ms if state in FINAL_STATES else 0

    # Reading

    def journal(self) -> Iterator[tuple[str, list[Accepted]]]:
        """See `Store.journal`."""
        entries = [(region, entry) for region, entry in self.entries(self.consumer) if entry.accepted]
        entries.sort(key=lambda pair: [int(part) for part in pair[1].id.split("-")])
        for region, entry in entries:
            values = self.values([record.id for record in entry.accepted])
            yield (
                journal_key(region, entry.id),
                [record for record in entry.accepted if (values[record.id] or b"@").startswith(b"@")],
            )

    def pending_callbacks(self) -> list[Callback]:
        """See `Store.pending_callbacks`."""
        entries = [entry for _, entry in self.entries(self.consumer)]
        entries.sort(key=lambda entry: [int(part) for part in entry.id.split("-")])
        return [entry.callback for entry in entries if entry.callback is not None]

    def orphans(self) -> list[str]:
        """See `Store.orphans`: there are none, rows come with their document."""
        return []

    def forget(self, before_at: float, limit: int) -> int:
        """See `Store.forget`.

        Documents expire by themselves; what is left to do is to take them out of the listing. Walks each
        region's index from where it stopped last.
        """
        for part in self.histories:
            part.forget()
        forgotten = 0
        for region, tag in enumerate(self.keys.tags):
            first = self._forget_from.get(region, 0)
            ids = [
                listed.decode()
                for listed in self.link.one(
                    "ZRANGEBYSCORE",
                    f"{tag}index",
                    "-inf",
                    int(before_at * 1e6),
                    "LIMIT",
                    first,
                    limit - forgotten,
                )
            ]
            gone = {
                task_id: digest_of(value)
                for task_id, value in self.values(ids).items()
                if value is None or (value.startswith(b"{") and self._is_old(value, before_at))
            }
            self._spare_young(gone, before_at)
            self._forget_from[region] = first + len(ids) - len(gone) if len(ids) == limit - forgotten else 0
            if gone:
                keys = [f"{tag}index", *map(self.keys.task, gone)]
                pairs = [word for pair in gone.items() for word in pair]
                forgotten += self.link.one(*FORGET.call(keys, [int(before_at * 1e6), *pairs]), is_write=True)
            if forgotten >= limit:
                break
        return forgotten

    def _spare_young(self, gone: dict[str, str], before_at: float) -> None:
        """Take out of *gone* what came so lately that it has not expired: dated by a clock that is behind."""
        there = [task_id for task_id, digest in gone.items() if digest]
        if self.now is None or not there:
            return
        kept_ms = (self.now() - before_at) * 1000
        for task_id, left_ms in zip(
            there, self.link.all([("PTTL", self.keys.task(task_id)) for task_id in there]), strict=True
        ):
            if left_ms > 0 and self._retention_ms - left_ms < kept_ms:
                del gone[task_id]

    @staticmethod
    def _is_old(value: bytes, before_at: float) -> bool:
        document = _decode(value)
        return stored_documents.is_final(document) and document["updated_at"] < before_at
