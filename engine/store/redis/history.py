"""The history in Redis: a part for each region, written by whoever settles the region's tasks.

A region's keys, beside those that `keys` names:

- ``settled``          list of records in no block, ``settled:count`` how many tasks those are of, large ones
                       as several; they go together into ``settled:packing`` when there are enough, and from
                       there into a block
- ``settled:by``       who packs them: of two that do, the first one's block does not count
- ``blocks``           sorted set, blocks by the creation of their newest task; ``blocks:kept`` by age
- ``blocks:last``      number of the last block
- ``blocks:sizes``     hash, number of a block → its bytes
- ``block:N``          hash: a block
- ``blocks:since``     when the newest task was created that is gone, or when the history began
- ``change:ID``        list: what late delivery made of a partial task

A record is written ahead of the documents that it is about, in one pipeline: so none is missing, and one that
is there twice is shown once. Blocks stay where they are: a script looks for the hashes.

Where no block can be made, or written, for long, the oldest records are dropped: records in no block are
bounded as blocks are, and no purge waits for them.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec
from loguru import logger

from engine.errors import StoreError
from engine.store.history import BlockHead, HistoryErrors, OpenHistory, late, packed
from engine.store.redis import host_rows
from engine.store.redis.history_commands import drop_all, put_block, put_plans
from engine.store.redis.history_scripts import DROP, HEADS, LOSE, TAKE
from engine.store.redis.keys import member_of
from engine.store.redis.records import facts_of
from engine.store.redis.rows import row_of
from engine.tasks.blocks import ANYBODY, close_block
from engine.tasks.packing import written
from engine.tasks.records import rows_of
from engine.tasks.segments import may_have, plans_of, readable, readable_tasks
from engine.tasks.settled import Change, encode, state_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from engine.store.history import HistoryLimits, Wanted
    from engine.store.redis.keys import Keys
    from engine.store.redis.link import Link
    from engine.store.redis.script import Command
    from engine.tasks.blocks import Block
    from engine.tasks.records import Delivered
    from engine.tasks.segments import Record
    from engine.tasks.settled import SettledTasks
    from engine.tasks.task import Task

_TASKS_MAX: Final = 2048  #: in one block, about
_TASK_BYTES: Final = 2048  #: of records, which count as one task at the least
_TASKS_OPEN_MAX: Final = (
    4 * _TASKS_MAX
)  #: in no block, and as many being packed; of more the oldest are dropped
_RETRY_S: Final = 60.0  #: after a block could not be made
_FULL: Final = 0.8  #: of Redis' maxmemory; beyond, blocks are dropped
_LOOKED_AT: Final = 64  #: blocks that one call looks at: about a millisecond
_QUEUES: Final = ("delay:", "fetch:", "wait:")
_encode = msgspec.json.encode
_decode_patterns = msgspec.json.Decoder(list[str]).decode


class RegionHistory:
    """See `engine.store.history.History`: that of one region.

    Args:
        link: to the servers.
        keys: names.
        region: number of the region.
        limits: how much of it is kept.
    """

    def __init__(self, link: Link, keys: Keys, region: int, limits: HistoryLimits) -> None:
        self.errors = HistoryErrors()
        self.is_full = False  #: there is enough for a block
        self._link = link
        self._keys = keys
        self._region = region
        self._tag = keys.tags[region]
        self._limits = limits
        self._again_at = 0.0

    # Writing

    def push(self, tasks: list[Task]) -> list[Command]:
        """Return the commands that write tasks which settle, and how many those are, last.

        None of them has two keys: so they work in a slot that is moving.
        """
        return self._push(packed(tasks, self.errors.cannot_write))

    def late(self, delivered: Sequence[Delivered]) -> list[Command]:
        """Return the same commands for what was late."""
        return self._push(late(delivered, self.errors.cannot_write))

    def _push(self, records: Sequence[tuple[int, bytes]]) -> list[Command]:
        if not records:
            return []
        name = f"{self._tag}settled"
        return [
            ("RPUSH", name, *(record for _, record in records)),
            ("PEXPIRE", name, self._keep_ms),
            (
                "INCRBY",
                f"{name}:count",
                sum(max(count, len(record) // _TASK_BYTES) for count, record in records),
            ),
        ]

    def pushed(self, reply: int | StoreError) -> None:
        """Take note of the answer to the last of `push`: how many tasks are in no block now."""
        if isinstance(reply, StoreError):
            self.errors.cannot_write(str(reply))
        else:
            self.is_full = reply >= _TASKS_MAX

    def wrote(self, reply: object) -> None:
        """Take note of the answer to any other of `push`."""
        if isinstance(reply, StoreError):
            self.errors.cannot_write(str(reply))

    def change(self, changes: Sequence[Change]) -> list[Command]:
        """Return the commands that write what became of partial tasks of this region."""
        commands: list[Command] = []
        for one in changes:
            name = f"{self._tag}change:{one.task_id}"
            commands += (("RPUSH", name, encode([one])), ("PEXPIRE", name, self._keep_ms))
        return commands

    @property
    def _keep_ms(self) -> int:
        return max(1000, int(self._limits.keep_s * 1000))

    def tidy(self) -> None:
        """Pack what has come together."""
        if not self.is_full or time.monotonic() < self._again_at:
            return
        self.is_full = False
        mine = os.urandom(8).hex()
        try:
            records = self._take(mine)
            if records:
                block = close_block(records, self._plans(records))
                self._link.one(*self._put(block, mine), is_write=True)
        except Exception as exc:  # noqa: BLE001 - a saver that dies would hang every client
            why = str(exc) if isinstance(exc, StoreError) else f"a block cannot be made: {exc!r}"
            self.errors.cannot_write(why)
            self._again_at = time.monotonic() + _RETRY_S
            self._lose(mine)
        else:
            self.errors.wrote()

    def _lose(self, mine: str) -> None:
        """Let the records go that no block can be made of, the oldest ones, when too many are behind them."""
        keys = ("settled:packing", "settled:by", "blocks:since", "settled:count")
        names = [f"{self._tag}{name}" for name in keys]
        call = LOSE.call(names, [mine, repr(time.time()), self._keep_ms, _TASKS_OPEN_MAX])
        try:
            if self._link.one(*call, is_write=True):
                why = self.errors.of_writing
                logger.error("history: region {} has dropped its oldest records: {}", self._region, why)
        except StoreError as exc:
            self.errors.cannot_write(str(exc))

    def _take(self, mine: str) -> list[Record]:
        names = [
            f"{self._tag}{name}" for name in ("settled", "settled:packing", "settled:count", "settled:by")
        ]
        texts = self._link.one(*TAKE.call(names, [mine, self._keep_ms]), is_write=True)
        return readable(((False, text) for text in texts), self.errors.cannot_write)[0]

    def _put(self, block: Block, mine: str) -> Command:
        return put_block(self._tag, block, mine, self._keep_ms, self._most_bytes())

    def begin(self) -> list[Command]:
        """Return the commands that note since when there is a history, where none has been noted."""
        name = f"{self._tag}blocks:since"
        return [("SET", name, repr(time.time()), "NX", "PX", self._keep_ms), ("PEXPIRE", name, self._keep_ms)]

    def begin_anew(self, since: float) -> None:
        """See `History.begin_anew`. What became of tasks stays: `take_over` writes none of it twice."""
        blocks = self._link.one("ZRANGE", f"{self._tag}blocks", 0, -1)
        self._write(drop_all(self._tag, blocks, since, self._keep_ms))

    def take_over(
        self, tasks: SettledTasks | None, changes: Sequence[Change], plans: Mapping[bytes, bytes]
    ) -> None:
        """See `History.take_over`."""
        keys = {self._keys.plan(self._region, key): text for key, text in plans.items()}
        twice = [("LREM", f"{self._tag}change:{one.task_id}", 0, encode([one])) for one in changes]
        self._write([*put_plans(keys), *twice, *self.change(changes)])
        if tasks is not None:
            self.pushed(self._write(self._push([(len(tasks.ids), written(tasks))]))[-1])
            self.tidy()

    def _write(self, commands: Sequence[Command]) -> list[Any]:
        replies = self._link.run(commands, is_write=True) if commands else []
        for reply in replies:
            if isinstance(reply, StoreError):
                raise reply
        return replies

    def forget(self) -> None:
        """Let go what is too old, or too much."""
        names = [f"{self._tag}{name}" for name in ("blocks", "blocks:kept", "blocks:sizes")]
        try:
            self._link.one(*DROP.call(names, [self._tag, self._keep_ms, self._most_bytes()]), is_write=True)
            self._link.run(self.begin(), is_write=True)
        except StoreError as exc:
            self.errors.cannot_write(str(exc))

    def _most_bytes(self) -> int:
        """Return how much the blocks may take: less than they do where Redis is about to be full.

        A Redis that is full refuses purges, and the history is the first that has to make room.
        """
        for text in self._link.on_each_master("INFO", "memory"):
            told = dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
            if int(told.get("used_memory", 0)) > _FULL * int(told.get("maxmemory", 0)) > 0:
                return min(self._limits.max_bytes, self.bytes_kept() * 9 // 10)
        return self._limits.max_bytes

    # Reading

    def unpacked(self, words: Sequence[bytes] = ()) -> OpenHistory:
        """See `History.unpacked`; changes are all with their tasks, see `changes`."""
        names = (f"{self._tag}settled", f"{self._tag}settled:packing")  # the way that records go
        replies = self._all([("LRANGE", name, 0, -1) for name in names])
        texts = (text for reply in replies for text in reply or ())
        fail = self.errors.cannot_read
        records, _ = readable(((False, text) for text in texts if may_have(text, words)), fail)
        return OpenHistory(readable_tasks(records, fail), [], self._plans(records))

    def _plans(self, records: Iterable[Record]) -> dict[bytes, bytes]:
        named = list(dict.fromkeys(key for record in records for key in plans_of(record)))
        texts = self._all([("GET", self._keys.plan(self._region, key)) for key in named])
        return {key: text for key, text in zip(named, texts, strict=True) if text}

    def heads(self, wanted: Wanted, after: BlockHead | None, limit: int) -> list[BlockHead]:
        """See `History.heads`."""
        found: list[BlockHead] = []
        last: tuple[Any, Any] = ("", "") if after is None else (after.key, repr(after.last_at))
        arguments = [
            *(self._tag, repr(wanted.since), repr(wanted.until), wanted.actions, wanted.states),
            *(_encode(wanted.who), ANYBODY, wanted.node, int(wanted.takes_wide)),
            *(repr(wanted.packed * 1000), len(wanted.hosts), *wanted.hosts, *wanted.targets),
        ]
        while len(found) < limit:
            names = [f"{self._tag}blocks"]
            [reply] = self._all([HEADS.call(names, [*last, _LOOKED_AT, *arguments])])
            if not reply:
                break
            last, rows = (reply[0], reply[1]), reply[2:]
            found += [
                BlockHead(int(key), float(last_at), starts, _decode_patterns(patterns))
                for key, last_at, starts, patterns in rows
            ]
            if not last[0]:
                break
        return found

    def block(self, key: int | str) -> tuple[bytes, bytes]:
        """See `History.block`."""
        [reply] = self._all([("HMGET", f"{self._tag}block:{key}", "hashes", "body")])
        hashes, body = reply or (None, None)
        return hashes or b"", body or b""

    def changes(self, task_ids: Sequence[str]) -> list[Change]:
        """See `History.changes`."""
        replies = self._all([("LRANGE", f"{self._tag}change:{name}", 0, -1) for name in task_ids])
        texts = [text for reply in replies for text in reply or ()]
        return readable(((True, text) for text in texts), self.errors.cannot_read)[1]

    def states(self, task_ids: Sequence[str]) -> list[Change]:
        """See `History.states`."""
        texts = self._all([("GET", self._keys.task(name)) for name in task_ids])
        found = [
            (name, facts_of(text))
            for name, text in zip(task_ids, texts, strict=True)
            if text and text.startswith(b"{")  # else it is at work
        ]
        return [
            Change(name, facts.updated_at, state_number(facts.state), [])
            for name, facts in found
            if facts.state
        ]

    def waiting(self, task_id: str, asked: Sequence[tuple[str, int, str]]) -> set[tuple[str, int, str]]:
        """See `History.waiting`."""
        by_node: dict[str, list[tuple[str, int, str]]] = {}
        for one in asked:
            by_node.setdefault(one[0], []).append(one)
        left: set[tuple[str, int, str]] = set()
        for node, subtasks in by_node.items():
            members = [member_of(operation, task_id, target) for _, operation, target in subtasks]
            for scores in self._all(
                [("ZMSCORE", f"{self._tag}{queue}{node}", *members) for queue in _QUEUES]
            ):
                left.update(
                    one for one, score in zip(subtasks, scores or (), strict=False) if score is not None
                )
            if len(left) < len(asked):
                left |= self._host_wide(node, task_id)
        return left

    def _host_wide(self, node: str, task_id: str) -> set[tuple[str, int, str]]:
        [members] = self._all([("ZRANGE", f"{self._tag}host:{node}", 0, -1)])
        rows = [row_of(node, member.decode(), 0.0, "") for member in members or ()]
        return {
            (one.node, one.operation, one.target)
            for row in rows
            if row.task_id == task_id and host_rows.is_host_row(row)
            for one in rows_of(row)
        }

    def bytes_kept(self) -> int:
        """See `History.bytes_kept`."""
        [sizes] = self._all([("HVALS", f"{self._tag}blocks:sizes")])
        return sum(map(int, sizes or ()))

    def complete_since(self) -> float:
        """See `History.complete_since`."""
        [text] = self._all([("GET", f"{self._tag}blocks:since")])
        return float(text) if text else time.time()  # Redis was emptied

    def _all(self, commands: Sequence[Command]) -> list[Any]:
        """Return what commands are answered; None for one that fails, which is told from then on.

        Raises:
            StoreError: it failed, and no other region can be read either.
        """
        replies = self._link.run(commands) if commands else []
        for reply in replies:
            if isinstance(reply, StoreError):
                if not self._link.has_parts:
                    raise reply
                self.errors.cannot_read(str(reply))
        return [None if isinstance(reply, StoreError) else reply for reply in replies]
