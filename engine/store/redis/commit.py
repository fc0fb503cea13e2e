"""A commit's pipeline to Redis: everything in a batch that needs no look at what is stored."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from engine.errors import StoreError
from engine.store.redis import node_records
from engine.store.redis.accepting import RECORDS_MAX, Accepting
from engine.store.redis.keys import GROUP, has_no_group
from engine.store.redis.records import encode_callback, facts_of, journal_key, split_key
from engine.store.redis.rows import Row, rows_behind
from engine.store.redis.scripts import ACK, CALLBACK, HAND_OVER, PROGRESS, SETTLE
from engine.tasks.records import Batch, Begun, Callback
from engine.tasks.words import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from engine.store.redis.documents import RedisDocuments
    from engine.store.redis.history import RegionHistory
    from engine.store.redis.script import Command
    from engine.tasks.records import Committed, Parked, Silence
    from engine.tasks.task import Task


def _nothing(_: Any) -> None:
    pass


def _keep_callbacks(callbacks: list[Callback], unwritten: Batch) -> None:
    unwritten.callbacks += callbacks


def _keep_silence(silence: Silence, unwritten: Batch) -> None:
    unwritten.silences.append(silence)


def _keep_entries(keys: list[str], unwritten: Batch) -> None:
    unwritten.settled_journal += keys  # those of callbacks are acknowledged in the same way


class RedisCommit:
    """The first pipeline of a commit: everything that needs no look at what is stored.

    Args:
        stored: shows documents of ids that are known already.
        consumer: name of this engine process.
        ms_of: tells how long a document in a state is kept, in milliseconds.
        batch: what is written.
        done: told what came of it.
        histories: of the regions; none: no history is kept.
    """

    def __init__(
        self,
        stored: RedisDocuments,
        consumer: str,
        ms_of: Callable[[str], int],
        batch: Batch,
        done: Committed,
        *,
        histories: Sequence[RegionHistory],
    ) -> None:
        self._stored = stored
        self._histories = histories
        self._consumer = consumer
        self._ms_of = ms_of
        self._keys = stored.keys
        self._batch = batch
        self._done = done
        self._commands: list[Command] = []
        self._after: list[tuple[Callable[[Any], None], list[int] | None, Callable[[Batch], object]]] = []
        self._accepting = Accepting(stored, consumer, batch, done, self._add)
        self.has_lost_groups = False
        self.left = Batch()  #: what could not be written, accepted tasks aside

    def write(self) -> None:
        """Send it, and note what came of it."""
        batch = self._batch
        self._accepting.add_all()
        if self._histories:
            self._keep_history()
        rows: dict[str, list[Parked]] = {}
        for row in batch.parked:
            rows.setdefault(row.task_id, []).append(row)
        callbacks = {
            callback.task_id: callback for callback in batch.callbacks if callback.task_id in batch.documents
        }
        for task_id, parked in rows.items():
            self._hand_over(task_id, parked, callbacks.get(task_id))
        self._settle([task_id for task_id in batch.documents if task_id not in rows], callbacks)
        self._progress()
        self._callbacks(
            [callback for callback in batch.callbacks if callbacks.get(callback.task_id) is not callback]
        )
        self._see()
        self._begin()
        self._pause()
        self._silence()
        self._ack([*batch.settled_journal, *batch.callbacks_over])
        if batch.is_probe:
            for tag in self._keys.tags:
                self._add(("SET", f"{tag}probe", "1"), _nothing)
        self._send()
        self._accepting.add_without_plan()
        self._send()
        self._accepting.add_between()
        self._accepting.show_known()

    def _send(self) -> None:
        """Send what is collected, and note what came of it."""
        commands, self._commands = self._commands, []
        waiting, self._after = self._after, []
        # What they hold refers to this object: were they kept, the collector would have to find it.
        replies = self._stored.link.run(commands, is_write=True, waits=False) if commands else []
        for (then, places, keep), reply in zip(waiting, replies, strict=True):
            if not isinstance(reply, StoreError) or places == []:
                then(reply)
                continue
            self.has_lost_groups |= has_no_group(reply)
            if places is None:
                self._done.own_error = reply
                keep(self.left)
            else:
                self._accepting.failed(places, reply)

    def _add(
        self,
        command: Command,
        then: Callable[[Any], None],
        *,
        places: list[int] | None = None,
        keep: Callable[[Batch], object] = _nothing,
    ) -> None:
        """Add a command.

        Args:
            command: a script or a command.
            then: given the answer.
            places: of the accepted tasks that it saves.
            keep: puts what it writes of the engine's own into another batch, when it cannot be written.
        """
        self._commands.append(command)
        self._after.append((then, places, keep))

    def _by_region(self, ids: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
        regions: dict[int, list[str]] = {}
        for task_id in ids:
            regions.setdefault(self._keys.region(task_id), []).append(task_id)
        for region, names in regions.items():
            for first in range(0, len(names), RECORDS_MAX):
                yield region, names[first : first + RECORDS_MAX]

    def _keep_history(self) -> None:
        """Write what the history keeps, ahead of the documents; a purge never waits for it."""
        regions: dict[int, list[Task]] = {}
        for task in self._batch.settling:
            regions.setdefault(self._keys.region(task.id), []).append(task)
        for region, tasks in regions.items():
            history = self._histories[region]
            commands = history.push(tasks)
            for place, command in enumerate(commands, 1):
                self._commands.append(command)
                self._after.append(
                    (history.pushed if place == len(commands) else history.wrote, [], _nothing)
                )

    def _settle(self, ids: list[str], callbacks: dict[str, Callback]) -> None:
        for region, names in self._by_region(ids):
            tag = self._keys.tags[region]
            flat: list[Any] = [GROUP, self._consumer]
            for task_id in names:
                document = self._batch.documents[task_id]
                facts = facts_of(document)
                callback = callbacks.get(task_id)
                flat += (
                    task_id,
                    int(facts.created_at * 1e6),
                    document,
                    self._ms_of(facts.state),
                    b"" if callback is None else encode_callback(callback),
                    repr(facts.due_at) if facts.state == State.RUNNING else "",
                )
            keys = [
                self._keys.streams[region],
                f"{tag}index",
                f"{tag}due",
                *(f"{tag}task:{name}" for name in names),
            ]
            self._add(
                SETTLE.call(keys, flat),
                self._settled(region, names, callbacks),
                keep=partial(self._keep_documents, names, callbacks),
            )

    def _keep_documents(self, names: list[str], callbacks: dict[str, Callback], unwritten: Batch) -> None:
        for name in names:
            unwritten.documents[name] = self._batch.documents[name]
            if name in callbacks:
                unwritten.callbacks.append(callbacks[name])

    def _settled(
        self, region: int, names: list[str], callbacks: dict[str, Callback]
    ) -> Callable[[Any], None]:
        def note(reply: Any) -> None:
            entries, lost = reply
            self._done.lost.update(names[place] for place in lost)
            for task_id, entry in zip(names, entries, strict=True):
                if entry:
                    self._note(callbacks[task_id], region, entry)

        return note

    def _note(self, callback: Callback, region: int, entry: bytes) -> None:
        key = journal_key(region, entry.decode())
        self._done.callbacks.append(Callback(key, callback.task_id, callback.url, callback.body))

    def _hand_over(self, task_id: str, parked: list[Parked], callback: Callback | None) -> None:
        region = self._keys.region(task_id)
        tag = self._keys.tags[region]
        document = self._batch.documents.get(task_id, b"")
        facts = facts_of(document) if document else None
        rows = [Row.parked(parked_row) for parked_row in parked]
        queues = list({queue: None for row in rows for queue in row.queues})
        place = {queue: number for number, queue in enumerate(queues, 1)}
        flat = [(place[queue], row.at or "", row.member) for row in rows for queue in row.queues]
        nodes = {parked_row.node for parked_row in parked}
        behind = rows_behind(parked)
        names = [
            f"{tag}{name}" for name in ("tasks", "index", "due", "delayed", f"behind:{task_id}", "clock")
        ]
        is_running = facts is not None and facts.state == State.RUNNING
        command = HAND_OVER.call(
            [self._keys.task(task_id), *names, *(tag + queue for queue in queues)],
            [
                GROUP,
                self._consumer,
                task_id,
                int(facts.created_at * 1e6) if facts else 0,
                document,
                self._ms_of(facts.state) if facts else 0,
                b"" if callback is None else encode_callback(callback),
                repr(facts.due_at) if facts is not None and is_running else "",
                len(flat),
                *(value for row in flat for value in row),
                len(nodes),
                *nodes,
                len(behind),
                *(value for pair in behind.items() for value in pair),
            ],
        )

        def note(reply: bytes) -> None:
            if reply == b"lost":
                self._done.lost.add(task_id)
            elif reply and reply != b"there" and callback is not None:
                self._note(callback, region, reply)

        def keep(unwritten: Batch) -> None:
            unwritten.parked += parked
            if document:
                unwritten.documents[task_id] = document
            if callback is not None:
                unwritten.callbacks.append(callback)

        self._add(command, note, keep=keep)

    def _progress(self) -> None:
        for region, names in self._by_region(self._batch.progress):
            tag = self._keys.tags[region]
            values = [self._batch.progress[name] for name in names]
            command = PROGRESS.call([f"{tag}task:{name}" for name in names], [self._consumer, *values])

            def note(reply: list[int], names: list[str] = names) -> None:
                self._done.lost.update(names[place] for place in reply)

            self._add(command, note, keep=partial(self._keep_progress, names))

    def _see(self) -> None:
        sightings = self._batch.sightings
        if not sightings:
            return

        def keep(unwritten: Batch) -> None:
            unwritten.sightings += sightings

        self._add(node_records.seen(self._keys, sightings), _nothing, keep=keep)

    def _begin(self) -> None:
        for begun in self._batch.begun:

            def keep(unwritten: Batch, begun: Begun = begun) -> None:
                unwritten.begun.append(begun)

            for command in node_records.begun(self._keys, begun):
                self._add(command, _nothing, keep=keep)

    def _pause(self) -> None:
        pauses = self._batch.pauses
        if not pauses:
            return

        def keep(unwritten: Batch) -> None:
            unwritten.pauses += pauses

        self._add(node_records.paused(self._keys, pauses), _nothing, keep=keep)

    def _silence(self) -> None:
        for silence in self._batch.silences:
            keep = partial(_keep_silence, silence)
            self._add(node_records.silenced(self._keys, silence), _nothing, keep=keep)

    def _keep_progress(self, names: list[str], unwritten: Batch) -> None:
        for name in names:
            unwritten.progress[name] = self._batch.progress[name]

    def _callbacks(self, callbacks: list[Callback]) -> None:
        regions: dict[int, list[Callback]] = {}
        for callback in callbacks:
            regions.setdefault(self._keys.region(callback.task_id), []).append(callback)
        for region, together in regions.items():

            def note(reply: list[bytes], region: int = region, together: list[Callback] = together) -> None:
                for callback, entry in zip(together, reply, strict=True):
                    self._note(callback, region, entry)

            texts = map(encode_callback, together)
            self._add(
                CALLBACK.call([self._keys.streams[region]], [GROUP, self._consumer, *texts]),
                note,
                keep=partial(_keep_callbacks, together),
            )

    def _ack(self, keys: Iterable[int | str]) -> None:
        regions: dict[int, list[str]] = {}
        for key in keys:
            if key:
                region, entry = split_key(key)
                regions.setdefault(region, []).append(entry)
        for region, entries in regions.items():
            for first in range(0, len(entries), RECORDS_MAX):
                together = entries[first : first + RECORDS_MAX]
                arguments = [GROUP, self._consumer, *together]
                self._add(
                    ACK.call([self._keys.streams[region]], arguments),
                    _nothing,
                    keep=partial(_keep_entries, [journal_key(region, entry) for entry in together]),
                )
