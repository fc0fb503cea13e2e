"""Changing stored documents: late delivery and cancels, while other engines change them too.

A document is read, changed here, and replaced by a script that refuses when it is not what was read any more;
then it is read again. The rows that the change counts go in the same step.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.errors import StoreError
from engine.store.redis.change_script import CHANGE
from engine.store.redis.keys import GROUP
from engine.store.redis.records import encode_callback, journal_key
from engine.store.redis.rows import Row
from engine.tasks import stored_documents
from engine.tasks.changes import changes_of
from engine.tasks.records import Batch, Callback, Committed, late_of
from engine.tasks.told import tell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from engine.store.redis.documents import RedisDocuments
    from engine.store.redis.history import RegionHistory
    from engine.store.redis.queues import RedisQueues
    from engine.store.redis.script import Command
    from engine.tasks.records import Delivered, Noted
    from engine.tasks.told import Told

_CHANGES_MAX: Final = 40  #: turns until a document that others keep changing is given up for this commit

_encode = msgspec.json.encode
_decode = msgspec.json.decode


class DocumentChanges:
    """Changes stored documents.

    Args:
        stored: reads documents.
        queues: reads their rows.
        consumer: name of this engine process.
        ms_of: tells how long a document in a state is kept, in milliseconds.
        histories: of the regions; none: no history is kept.
    """

    def __init__(
        self,
        stored: RedisDocuments,
        queues: RedisQueues,
        consumer: str,
        ms_of: Callable[[str], int],
        histories: Sequence[RegionHistory] = (),
    ) -> None:
        self._stored = stored
        self._histories = histories
        self._queues = queues
        self._consumer = consumer
        self._ms_of = ms_of
        self._keys = stored.keys
        self._link = stored.link

    def write(self, batch: Batch, done: Committed) -> Batch | None:
        """Fold late delivery, cancels and reasons of *batch* into stored documents, and drop their rows.

        Returns:
            What could not be written of these; `Committed.own_error` says why, and `Committed.stuck` names
            the tasks whose rows can be read nevertheless.

        Raises:
            StoreError: none of it can be written; doing all of it again is safe.
        """
        by_task: dict[str, list[Delivered]] = {}
        for delivered in batch.delivered:
            by_task.setdefault(delivered.row.task_id, []).append(delivered)
        cancelled = {**dict.fromkeys(batch.unparked_tasks, 0.0), **batch.cancelled}
        noted: dict[str, list[Noted]] = {}
        for one in batch.noted:
            noted.setdefault(one.task_id, []).append(one)
        for task_id in (*cancelled, *noted):
            by_task.setdefault(task_id, [])
        errors: dict[str, StoreError] = {}
        for _ in range(_CHANGES_MAX):
            by_task = self._turn(by_task, cancelled, noted, done, errors)
            if not by_task:
                break
        else:
            error = StoreError(f"{self._link.url}: documents are changed all the time by others")
            errors.update(dict.fromkeys(by_task, error))
            done.stuck.update(by_task)
        if not errors:
            return None
        done.own_error = next(iter(errors.values()))
        return Batch(
            delivered=[one for one in batch.delivered if one.row.task_id in errors],
            cancelled={name: at for name, at in batch.cancelled.items() if name in errors},
            unparked_tasks=[name for name in batch.unparked_tasks if name in errors],
            noted=[one for one in batch.noted if one.task_id in errors],
        )

    def _turn(
        self,
        by_task: dict[str, list[Delivered]],
        cancelled: dict[str, float],
        noted: dict[str, list[Noted]],
        done: Committed,
        errors: dict[str, StoreError],
    ) -> dict[str, list[Delivered]]:
        """Change documents as they are now; return those that were changed meanwhile.

        Those that cannot be read or written are added to *errors*.
        """
        old, unread = self._stored.values_in_part(list(by_task))
        errors.update(unread)
        by_task = {task_id: rows for task_id, rows in by_task.items() if task_id in old}
        cancelled = {task_id: at for task_id, at in cancelled.items() if task_id in old}
        present = self._queues.present([settled.row for rows in by_task.values() for settled in rows])
        drop = self._queues.rows_of_tasks(cancelled) if cancelled else {}
        freed = self._queues.queues_behind(by_task)
        commands: list[Command] = []
        history: list[Command] = []
        asked: list[tuple[str, dict[str, Any] | None]] = []
        for task_id, delivered in by_task.items():
            counted = [settled for settled in delivered if (settled.row.node, settled.row.key) in present]
            document = self._changed(old[task_id], counted, cancelled.get(task_id), noted.get(task_id, ()))
            there = present if document is not None else ()
            rows = [
                Row.delivered(one, must_be_there=(one.row.node, one.row.key) in there) for one in delivered
            ]
            rows += drop.get(task_id, [])  # each must be there: it may be joined or parted meanwhile
            if not rows and document is None:
                continue
            frees, drops_behind = freed.get(task_id, ()), task_id in cancelled
            history += self._history(document, counted)
            commands.append(
                self.command(task_id, old[task_id], document, rows, frees=frees, drops_behind=drops_behind)
            )
            asked.append((task_id, document))
        then = self._late([one for task_id, _ in asked for one in by_task[task_id]], history)
        replies = self._link.run([*history, *commands], is_write=True, waits=False)
        for place, note in then:
            note(replies[place])
        return self._told(asked, replies[len(history) :], by_task, done, errors)

    def _told(
        self,
        asked: Sequence[tuple[str, dict[str, Any] | None]],
        replies: Sequence[Any],
        by_task: dict[str, list[Delivered]],
        done: Committed,
        errors: dict[str, StoreError],
    ) -> dict[str, list[Delivered]]:
        """Note what became of each document; return those that were changed meanwhile."""
        changed_meanwhile: dict[str, list[Delivered]] = {}
        for (task_id, document), reply in zip(asked, replies, strict=True):
            if isinstance(reply, StoreError):
                errors[task_id] = reply
                done.stuck.add(task_id)
            elif reply == b"changed":
                changed_meanwhile[task_id] = by_task[task_id]
            elif document is not None and stored_documents.is_final(document):
                done.settled_late.append(document)
                self.note_callback(done, task_id, document, reply)
        return changed_meanwhile

    def _history(self, document: dict[str, Any] | None, counted: Sequence[Delivered]) -> list[Command]:
        """Return the commands that tell the history what became of a stored task."""
        if document is None or not self._histories:
            return []
        changes = changes_of([document] if stored_documents.is_final(document) else [], counted)
        return self._histories[self._keys.region(document["task_id"])].change(changes) if changes else []

    def _late(
        self, delivered: Sequence[Delivered], history: list[Command]
    ) -> list[tuple[int, Callable[[Any], None]]]:
        """Add to *history* the commands that keep what was late; return who is told which answers."""
        then: list[tuple[int, Callable[[Any], None]]] = []
        by_region: dict[int, list[Delivered]] = {}
        for one in delivered if self._histories else ():
            by_region.setdefault(self._keys.region(one.row.task_id), []).append(one)
        for region, rows in by_region.items():
            if commands := self._histories[region].late(rows):
                history += commands
                then.append((len(history) - 1, self._histories[region].pushed))
        return then

    def _changed(
        self,
        old: bytes | None,
        counted: Sequence[Delivered],
        cancelled_at: float | None,
        noted: Sequence[Noted],
    ) -> dict[str, Any] | None:
        """Return the new document, or None when there is none to change."""
        if old is None or old.startswith(b"@"):
            return None  # gone, or at work: then whoever has it will leave its rows again
        document: dict[str, Any] = _decode(old)
        if stored_documents.is_final(document):
            return None
        late = late_of(counted)
        if not late and not cancelled_at and not noted:
            return None
        for late_one in late:
            stored_documents.apply_late(document, late_one)
        for one in noted:
            stored_documents.note_waiting(document, one)
        if cancelled_at and not stored_documents.is_final(document):
            stored_documents.cancel_stored(document, cancelled_at)
        return document

    def tell(self, told: list[tuple[str, Told]], done: Committed) -> list[tuple[str, Told]]:
        """Keep with stored tasks what became of their reports; return what could not be written."""
        errors: dict[str, StoreError] = {}
        waiting = {task_id for task_id, _ in told}
        for _ in range(_CHANGES_MAX):
            old, unread = self._stored.values_in_part(sorted(waiting))
            errors.update(unread)
            commands = {}
            for task_id, value in old.items():
                if value is None or value.startswith(b"@"):
                    continue  # gone, or at work: then it is in the memory of whoever has it
                document = _decode(value)
                news = [tell(document, one) for name, one in told if name == task_id]
                if any(news):
                    commands[task_id] = self.command(task_id, value, document, reports=False)
            replies = self._link.run(list(commands.values()), is_write=True, waits=False) if commands else []
            outcomes = dict(zip(commands, replies, strict=True))
            errors.update({name: one for name, one in outcomes.items() if isinstance(one, StoreError)})
            waiting = {task_id for task_id, reply in outcomes.items() if reply == b"changed"}
            if not waiting:
                break
        else:
            error = StoreError(f"{self._link.url}: documents are changed all the time by others")
            errors.update(dict.fromkeys(waiting, error))
        if errors:
            done.own_error = next(iter(errors.values()))
        return [(task_id, one) for task_id, one in told if task_id in errors]

    def command(
        self,
        task_id: str,
        old: bytes | None,
        document: dict[str, Any] | None,
        rows: Sequence[Row] = (),
        *,
        frees: Iterable[str] = (),
        drops_behind: bool = False,
        fence: int | None = None,
        reports: bool | None = None,
        server: str = "",
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
            reports: whether its callback is sent; None: when it is final.
            server: that has to do it, by its run id; empty: any.
        """
        tag = self._keys.tags[self._keys.region(task_id)]
        queues, count, entries = _entries(rows)
        text, callback, ms = self._texts_of(document, reports=reports)
        names = [
            f"{tag}{name}" for name in ("tasks", "due", "delayed", f"behind:{task_id}", "fence", "clock")
        ]
        return CHANGE.call(
            [self._keys.task(task_id), *names, *(tag + queue for queue in [*queues, *frees])],
            [
                GROUP,
                self._consumer,
                tag,
                _as_read(old),
                text,
                ms,
                callback,
                "" if fence is None else fence,
                "1" if drops_behind else "0",
                server,
                count,
                *entries,
            ],
        )

    def _texts_of(self, document: dict[str, Any] | None, *, reports: bool | None) -> tuple[bytes, bytes, int]:
        """Return a document as it is stored, the callback it makes, and its milliseconds to live."""
        if document is None:
            return b"", b"", 0
        callback = b""
        if stored_documents.is_final(document) if reports is None else reports:
            callback = next(map(encode_callback, stored_documents.callbacks_of([document])), b"")
        return _encode(document), callback, self._ms_of(document["state"])

    def note_callback(
        self, done: Committed, task_id: str, document: dict[str, Any] | None, entry: bytes
    ) -> None:
        """Add a callback that was written with a document to what a commit answers."""
        if entry and document is not None:
            [callback] = stored_documents.callbacks_of([document])
            key = journal_key(self._keys.region(task_id), entry.decode())
            done.callbacks.append(Callback(key, task_id, callback.url, callback.body))


def digest_of(value: bytes | None) -> str:
    """Return what scripts tell by whether a value has changed; empty for none."""
    return "" if value is None else hashlib.sha1(value).hexdigest()  # noqa: S324 - not for secrets


def _as_read(value: bytes | None) -> str:
    """Return what `CHANGE` is told was read; of a task at work not how far it is."""
    return "@" if value is not None and value.startswith(b"@") else digest_of(value)


def _entries(rows: Sequence[Row]) -> tuple[list[str], int, list[Any]]:
    """Return the queues of *rows*, how many entries those hold of them, and five words for each entry.

    The words are those that the script takes: the place of the queue from 1, the member, whether it must be
    there, the token that lets others go, the target.
    """
    queues = list(dict.fromkeys(queue for row in rows for queue in row.queues))
    place = {queue: number for number, queue in enumerate(queues, 1)}
    words: list[Any] = []
    count = 0
    named: set[tuple[str, str]] = set()
    for row in rows:
        for queue in row.queues:
            count += 1
            is_first = queue is row.queues[0]
            is_named = (queue, row.member) in named  # the long name of a host-wide row is sent once
            named.add((queue, row.member))
            words += (
                place[queue],
                "" if is_named else row.member,
                "1" if is_first and row.must_be_there and not is_named else "0",
                row.token if is_first else "",
                row.target,
            )
    return queues, count, words
