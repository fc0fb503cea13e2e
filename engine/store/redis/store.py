"""The shared store: one Redis, single, watched by sentinels or a cluster, for any number of engines.

A batch is one pipeline, a few scripts per region (`redis_scripts`). What makes it safe without a
transaction over regions is that every part can be repeated: an entry is acknowledged only after the
documents of its tasks were written, rows come with the document that counts them and go with the one that
counts them off, and a document is only replaced by who owns the task. An entry whose commit seemed to fail
may have been stored all the same; it is found later as one that this engine has and does not know of.

Accepted tasks are entries of a stream per region, pending for this engine from the same step on, so that
others find them when this one dies. Their documents begin as a stub that says where the record is: what it
asks for is not stored twice.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.errors import StoreError
from engine.store.redis.commit import RedisCommit
from engine.store.redis.keys import GROUP, Keys
from engine.store.redis.queues import RedisQueues, Row
from engine.store.redis.records import (
    Live,
    bare_document,
    encode_callback,
    facts_of,
    journal_key,
    read_entry,
    read_live,
)
from engine.store.redis.scripts import CHANGE, FORGET
from engine.tasks import documents
from engine.tasks.records import Batch, Callback, Committed, late_of
from engine.tasks.words import FINAL_STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from engine.store.redis.link import Command, Link
    from engine.tasks.records import Accepted, Delivered

_CHANGES_MAX: Final = 40  #: turns until a document that others keep changing is given up for this commit
_SCAN_TASKS: Final = 20_000  #: tasks one page of a filtered listing looks at
_PLACES: Final = 1024  #: regions at the most; a place in the listing is microseconds and region
_ENTRIES: Final = 500

_encode = msgspec.json.encode
_decode = msgspec.json.decode


class RedisStore(RedisQueues):
    """The store as one engine sees it.

    Args:
        link: to the servers.
        keys: names.
        consumer: name of this engine process in the consumer groups, never used by another.
        retention_s: settled tasks are kept so long.
        describe: makes the private document of a task that has only been accepted.
    """

    is_shared = True

    def __init__(
        self,
        link: Link,
        keys: Keys,
        consumer: str,
        *,
        retention_s: float = 3 * 86400,
        describe: Callable[[Accepted], bytes] = bare_document,
    ) -> None:
        super().__init__(link, keys)
        self.consumer = consumer
        self.describe = describe
        self._retention_ms = max(1000, int(retention_s * 1000))
        self._forget_from: dict[int, int] = {}
        self._is_open = False

    def __repr__(self) -> str:
        return f"<RedisStore of {self.consumer} at {self.link.url}>"

    def open(self, *, is_in_use: bool = False) -> None:
        """See `Store.open`. Others may have it open, now or later."""
        layout = self.keys.cluster("layout")
        wanted = f"region_count={self.keys.count}"
        self.link.one("SET", layout, wanted, "NX", is_write=True)
        found = (self.link.one("GET", layout) or b"").decode()
        if found != wanted:
            raise StoreError(
                f"{self.link.url} is of engines with {found}, and that says where a task is: it cannot be "
                f"{wanted} there; set store.region_count, or another store.prefix"
            )
        self._make_groups()
        self._is_open = True

    def _make_groups(self) -> None:
        made = self.link.run(
            [("XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM") for stream in self.keys.streams],
            is_write=True,
        )
        for reply in made:
            if isinstance(reply, StoreError) and "BUSYGROUP" not in str(reply):
                raise reply

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
        work = RedisCommit(self, batch, done)
        work.write()
        if work.has_lost_groups:  # somebody emptied Redis
            self._make_groups()
            work = RedisCommit(self, batch, done := Committed(journal=[""] * len(batch.accepted)))
            work.write()
        if batch.delivered or batch.cancelled or batch.unparked_tasks:
            try:
                self._change(batch, done)
            except StoreError as exc:
                done.own_error = exc
                work.left.delivered = batch.delivered
                work.left.cancelled = batch.cancelled
                work.left.unparked_tasks = batch.unparked_tasks
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

    def _works_in_part(self) -> bool:
        """Tell whether some server of a cluster answers, though those that a batch needed did not."""
        if self.link.url.kind != "cluster":
            return False
        replies = self.link.run([("EXISTS", f"{tag}probe") for tag in self.keys.tags])
        return not all(isinstance(reply, StoreError) for reply in replies)

    def ms_of(self, state: str) -> int:
        """Return how long a document in *state* is kept, in milliseconds; 0: until it changes."""
        return self._retention_ms if state in FINAL_STATES else 0

    # Changing what is stored

    def _change(self, batch: Batch, done: Committed) -> None:
        by_task: dict[str, list[Delivered]] = {}
        for one in batch.delivered:
            by_task.setdefault(one.row.task_id, []).append(one)
        cancelled = {**dict.fromkeys(batch.unparked_tasks, 0.0), **batch.cancelled}
        for task_id in cancelled:
            by_task.setdefault(task_id, [])
        for _ in range(_CHANGES_MAX):
            by_task = self._change_once(by_task, cancelled, done)
            if not by_task:
                return
        raise StoreError(f"{self.link.url}: {len(by_task)} documents are changed all the time by others")

    def _change_once(
        self, by_task: dict[str, list[Delivered]], cancelled: dict[str, float], done: Committed
    ) -> dict[str, list[Delivered]]:
        """Change documents as they are now; return those that were changed meanwhile."""
        old = self.values(list(by_task))
        here = self.present([one.row for rows in by_task.values() for one in rows])
        drop = self.rows_of_tasks(cancelled) if cancelled else {}
        freed = self.queues_behind(by_task)
        commands: list[Command] = []
        after: list[tuple[str, dict[str, Any] | None]] = []
        for task_id, delivered in by_task.items():
            counted = [one for one in delivered if (one.row.node, one.row.key) in here]
            document = self._changed(old[task_id], counted, cancelled.get(task_id), task_id)
            rows = [
                Row.delivered(one, must_be_there=document is not None and one in counted) for one in delivered
            ]
            rows += drop.get(task_id, [])
            if not rows and document is None:
                continue
            commands.append(
                self.change(
                    task_id,
                    old[task_id],
                    document,
                    rows,
                    frees=freed.get(task_id, ()),
                    drops_behind=task_id in cancelled,
                )
            )
            after.append((task_id, document))
        again: dict[str, list[Delivered]] = {}
        error: StoreError | None = None
        for (task_id, document), reply in zip(after, self.link.run(commands, is_write=True), strict=True):
            if isinstance(reply, StoreError):
                error = reply
            elif reply == b"changed":
                again[task_id] = by_task[task_id]
            elif document is not None and documents.is_final(document):
                done.settled_late.append(document["state"])
                self.note_callback(done, task_id, document, reply)
        if error is not None:
            raise error
        return again

    def _changed(
        self, old: bytes | None, counted: Sequence[Delivered], cancelled_at: float | None, task_id: str
    ) -> dict[str, Any] | None:
        """Return the new document, or None when there is none to change."""
        if old is None or old.startswith(b"@"):
            return None  # gone, or at work: then whoever has it will leave its rows again
        document: dict[str, Any] = _decode(old)
        if documents.is_final(document):
            return None
        late = late_of(counted)
        if not late and not cancelled_at:
            return None
        for one in late:
            documents.apply_late(document, one)
        if cancelled_at and not documents.is_final(document):
            documents.cancel_stored(document, cancelled_at)
        return document

    def change(
        self,
        task_id: str,
        old: bytes | None,
        document: dict[str, Any] | None,
        rows: Sequence[Row] = (),
        *,
        frees: Iterable[str] = (),
        drops_behind: bool = False,
        fence: int | None = None,
        reports: bool = False,
    ) -> Command:
        """Return the command that replaces *old* by *document*, if it is still that, and drops *rows*.

        Args:
            task_id: the task.
            old: its value as it was read.
            document: None: only the rows go.
            rows: of the task.
            frees: queues that rows come to or go from when *rows* let them go; in a slot on the move all have
                to be named, or the script would find some empty that are not.
            drops_behind: what waits for parents goes too.
            fence: number of the leader that does this.
            reports: its callback is sent although it is not final.
        """
        tag = self.keys.tags[self.keys.region(task_id)]
        queues = list({queue: None for row in rows for queue in row.queues})
        place = {queue: number for number, queue in enumerate(queues, 1)}
        flat: list[Any] = []
        count = 0
        for row in rows:
            for queue in row.queues:
                count += 1
                is_first = queue is row.queues[0]
                flat += (
                    place[queue],
                    row.member,
                    "1" if is_first and row.must_be_there else "0",
                    row.token if is_first else "",
                    row.target,
                )
        text, callback, ms = b"", b"", 0
        if document is not None:
            text = _encode(document)
            ms = self.ms_of(document["state"])
            if documents.is_final(document) or reports:
                callback = next(map(encode_callback, documents.callbacks_of([document])), b"")
        names = [f"{tag}{name}" for name in ("tasks", "due", "delayed", f"behind:{task_id}", "fence")]
        return CHANGE.call(
            [self.keys.task(task_id), *names, *(tag + queue for queue in [*queues, *frees])],
            [
                GROUP,
                self.consumer,
                tag,
                self.now(),
                _digest(old),
                text,
                ms,
                callback,
                "" if fence is None else fence,
                "1" if drops_behind else "0",
                count,
                *flat,
            ],
        )

    def note_callback(
        self, done: Committed, task_id: str, document: dict[str, Any] | None, entry: bytes
    ) -> None:
        """Add a callback that was written with a document to what a commit answers."""
        if entry and document is not None:
            [callback] = documents.callbacks_of([document])
            key = journal_key(self.keys.region(task_id), entry.decode())
            done.callbacks.append(Callback(key, task_id, callback.url, callback.body))

    # Reading

    def values(self, task_ids: Sequence[str]) -> dict[str, bytes | None]:
        """Return what stands in tasks' keys."""
        found = self.link.all([("GET", self.keys.task(task_id)) for task_id in task_ids])
        return dict(zip(task_ids, found, strict=True))

    def shown(self, values: dict[str, bytes | None]) -> dict[str, bytes]:
        """Return private documents for what stands in tasks' keys; of stubs from their records."""
        found: dict[str, bytes] = {}
        stubs: dict[tuple[int, str], set[str]] = {}
        for task_id, value in values.items():
            live = None if value is None else read_live(value)
            if live is None:
                if value is not None:
                    found[task_id] = value
            elif live.progress:
                found[task_id] = live.progress
            else:
                stubs.setdefault((self.keys.region(task_id), live.entry), set()).add(task_id)
        if stubs:
            self._describe(stubs, found)
        return found

    def _describe(self, stubs: dict[tuple[int, str], set[str]], found: dict[str, bytes]) -> None:
        replies = self.link.all(
            [("XRANGE", self.keys.streams[region], entry, entry) for region, entry in stubs]
        )
        gone: list[str] = []
        for ((region, _), ids), reply in zip(stubs.items(), replies, strict=True):
            if not reply:
                gone += ids  # settled since its key was read
                continue
            for record in read_entry(region, *reply[0]).accepted:
                if record.id in ids:
                    found[record.id] = self.describe(record)
        if gone:
            found.update(
                {name: text for name, text in self.values(gone).items() if text and text[:1] == b"{"}
            )

    def live(self, task_id: str) -> Live | None:
        """Return who works on a task, or None: it is stored, or there is none."""
        value = self.link.one("GET", self.keys.task(task_id))
        return None if value is None else read_live(value)

    def document(self, task_id: str) -> bytes | None:
        """See `Store.document`. Of a task at work it is as old as its last progress."""
        value = self.link.one("GET", self.keys.task(task_id))
        return self.shown({task_id: value}).get(task_id)

    def documents(self, state: str | None, before: int, limit: int) -> tuple[list[bytes], int]:
        """See `Store.documents`. With a state, a page looks at a bounded number of tasks."""
        found: list[bytes] = []
        looked_at = 0
        while before and len(found) < limit and looked_at < _SCAN_TASKS:
            want = limit if state is None else max(limit, 500)
            page, following = self._page(before, want)
            looked_at += len(page)
            texts = self.shown(self.values([task_id for _, task_id in page]))
            before = following
            for place, task_id in page:
                text = texts.get(task_id)
                if text is not None and (state is None or facts_of(text).state == state):
                    found.append(text)
                    if len(found) == limit:
                        before = place if place != page[-1][0] else following
                        break
        return found, before

    def _page(self, before: int, limit: int) -> tuple[list[tuple[int, str]], int]:
        """Return places and ids, newest first, and where the next page begins."""
        commands: list[Command] = []
        for region, tag in enumerate(self.keys.tags):
            score, rest = divmod(before, _PLACES)
            top = f"{score}" if region < rest else f"({score}"
            commands.append(("ZREVRANGEBYSCORE", f"{tag}index", top, "-inf", "WITHSCORES", "LIMIT", 0, limit))
        places: list[tuple[int, str]] = []
        is_cut = False
        for region, reply in enumerate(self.link.all(commands)):
            is_cut |= len(reply) == 2 * limit
            for task_id, score in zip(*[iter(reply)] * 2, strict=True):
                places.append((int(float(score)) * _PLACES + region, task_id.decode()))
        places.sort(reverse=True)
        if len(places) <= limit and not is_cut:
            return places, 0
        page = places[:limit]
        if len(places) > limit and places[limit][0] == page[-1][0]:  # two of one place stay together
            whole = [one for one in page if one[0] != page[-1][0]]
            page = whole or [one for one in places if one[0] == page[-1][0]]
        return page, page[-1][0]

    def count(self) -> dict[str, int]:
        """See `Store.count`. Looks at every task."""
        rows = sum(self.link.all([("XLEN", stream) for stream in self.keys.streams]))
        settled = 0
        before = 2**62
        while before:
            page, before = self._page(before, 1000)
            values = self.values([task_id for _, task_id in page])
            settled += sum(value is not None and value.startswith(b"{") for value in values.values())
        return {"settled": settled, "journal_rows": rows}

    def pending(self, region: int, consumer: str, *, idle_ms: int = 0) -> Iterator[list[str]]:
        """Yield ids of the entries that a consumer has in a region, oldest first, some at a time.

        Args:
            region: its number.
            consumer: its name.
            idle_ms: only those that were last claimed so long ago.
        """
        low = "-"
        idle = ("IDLE", idle_ms) if idle_ms else ()
        while True:
            reply = self.link.one(
                "XPENDING", self.keys.streams[region], GROUP, *idle, low, "+", _ENTRIES, consumer
            )
            if not reply:
                return
            yield [one[0].decode() for one in reply]
            if len(reply) < _ENTRIES:
                return
            low = f"({reply[-1][0].decode()}"

    def entries(self, consumer: str) -> Iterator[tuple[int, Any]]:
        """Yield region and entry of everything that a consumer has."""
        for region in range(self.keys.count):
            for ids in self.pending(region, consumer):
                stream = self.keys.streams[region]
                for reply in self.link.all([("XRANGE", stream, entry, entry) for entry in ids]):
                    if reply:
                        yield region, read_entry(region, *reply[0])

    def journal(self) -> Iterator[tuple[str, list[Accepted]]]:
        """See `Store.journal`."""
        found = [(region, entry) for region, entry in self.entries(self.consumer) if entry.accepted]
        found.sort(key=lambda pair: [int(part) for part in pair[1].id.split("-")])
        for region, entry in found:
            values = self.values([record.id for record in entry.accepted])
            yield (
                journal_key(region, entry.id),
                [record for record in entry.accepted if (values[record.id] or b"@").startswith(b"@")],
            )

    def pending_callbacks(self) -> list[Callback]:
        """See `Store.pending_callbacks`."""
        found = [entry for _, entry in self.entries(self.consumer) if entry.callback is not None]
        found.sort(key=lambda entry: [int(part) for part in entry.id.split("-")])
        return [entry.callback for entry in found]

    def orphans(self) -> list[str]:
        """See `Store.orphans`: there are none, rows come with their document."""
        return []

    def forget(self, before_at: float, limit: int) -> int:
        """See `Store.forget`.

        Documents expire by themselves; what is left to do is to take them out of the listing. Walks each
        region's index from where it stopped last.
        """
        forgotten = 0
        for region, tag in enumerate(self.keys.tags):
            first = self._forget_from.get(region, 0)
            ids = [
                one.decode()
                for one in self.link.one(
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
                task_id: _digest(value)
                for task_id, value in self.values(ids).items()
                if value is None or (value.startswith(b"{") and self._is_old(value, before_at))
            }
            self._forget_from[region] = first + len(ids) - len(gone) if len(ids) == limit - forgotten else 0
            if gone:
                keys = [f"{tag}index", *map(self.keys.task, gone)]
                pairs = [word for pair in gone.items() for word in pair]
                forgotten += self.link.one(*FORGET.call(keys, [int(before_at * 1e6), *pairs]), is_write=True)
            if forgotten >= limit:
                break
        return forgotten

    @staticmethod
    def _is_old(value: bytes, before_at: float) -> bool:
        document = _decode(value)
        return documents.is_final(document) and document["updated_at"] < before_at


def _digest(value: bytes | None) -> str:
    """Return what scripts tell by whether a value has changed; empty for none."""
    return "" if value is None else hashlib.sha1(value).hexdigest()  # noqa: S324 - not for secrets
