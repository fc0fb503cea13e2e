"""Delay queues in Redis.

A sorted set of rows per node *and region*, and per region the set of nodes that have any, as the talk's
list per host and set of hosts. Per region, because a row and the document that counts it then change in
one step: no row is lost or counted twice when an engine dies in between, on a cluster neither. What that
costs is that a queue is read from all regions at once, in one pipeline, and merged by time.

There is no index of targets. Rows that ask for the same are looked for among those that were read together,
and what a delivery has sent already settles older rows that ask for it again; see `delivery.sent`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.errors import StoreError
from engine.store.redis.rows import Row, rows_in
from engine.store.redis.scripts import CLEAN, MOMENT
from engine.store.redis.task_rows import QUEUES, TaskRows
from engine.tasks.records import Depth, ParkedRow
from engine.tasks.words import URLS, Operation, host_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from engine.store.redis.script import Command
    from engine.tasks.records import Delivered

_PURGES: Final = ("delay:", "host:")
_SENDABLE: Final = ("delay:", "fetch:", "host:")
_PREFETCH: Final = str(int(Operation.PREFETCH))
_WIDE_MAX: Final = 1000
_COUNTED_ROWS: Final = 10_000
_BACK_S: Final = 30.0
"""How far a region's time may go back: by what a failover lost. And rows of an engine of the version before
bear the time of its own clock, which may be off by as much."""


class RedisQueues(TaskRows):
    """The part of the store that reads delay queues."""

    def moment(self) -> Callable[[ParkedRow], bool]:
        """Return what tells of a row whether it was surely in its queue when this was called.

        By the time of each region, which its server gives, and which a failover to another does not set back:
        no engine's clock says when a row came. Of a region that cannot be asked no row was.
        """
        commands = [MOMENT.call([f"{tag}clock"], []) for tag in self.keys.tags]
        replies = self.link.run(commands, is_write=True)
        until = [0.0 if isinstance(reply, StoreError) else float(reply) - _BACK_S for reply in replies]
        region = self.keys.region
        return lambda row: row.seq < until[region(row.task_id)]

    # How full

    def _delayed(self) -> list[set[str]]:
        """Return the nodes that have rows, per region."""
        sets = [f"{tag}{which}" for which in ("delayed", "hosted") for tag in self.keys.tags]
        replies = self.readable(
            [("SMEMBERS", name) for name in sets]
        )  # two keys at once: not in a slot on the move
        names = [{name.decode() for name in reply or ()} for reply in replies]
        return [one | other for one, other in zip(names, names[self.keys.count :], strict=False)]

    def depths(self) -> dict[str, Depth]:
        """See `Store.depths`."""
        return self._depths(self._delayed())

    def depth(self, node: str) -> Depth:
        """See `Store.depth`."""
        return self._depths([{node}] * self.keys.count).get(node, Depth(0, 0.0))

    def pin(self) -> Callable[[str], int]:
        """See `Store.pin`."""
        return lambda node: self.depth(node).count

    def _depths(self, delayed: list[set[str]]) -> dict[str, Depth]:
        places = [(tag, node) for tag, nodes in zip(self.keys.tags, delayed, strict=True) for node in nodes]
        commands: list[Command] = []
        for tag, node in places:
            for queue in QUEUES:
                commands.append(("ZCARD", f"{tag}{queue}{node}"))
                commands.append(("ZRANGE", f"{tag}{queue}{node}", 0, 0, "WITHSCORES"))
        replies = iter(self.readable(commands) if commands else ())
        depths: dict[str, Depth] = {}
        empty: list[Command] = []
        for tag, node in places:
            counts, oldest, is_read = [], [], True
            for _ in QUEUES:
                count, first = next(replies), next(replies)
                is_read &= count is not None and first is not None
                counts.append(count or 0)
                if first:
                    oldest.append(float(first[1]))
            if not is_read:
                continue
            if not oldest:
                names = [f"{tag}{queue}{node}" for queue in QUEUES]
                empty += [CLEAN.call([f"{tag}{which}", *names], [node]) for which in ("delayed", "hosted")]
                continue
            before = depths.get(node, Depth(0, oldest[0]))
            depths[node] = Depth(
                before.count + sum(counts),
                min(before.oldest_at, *oldest),
                before.ready + counts[0] + counts[1] + counts[3],
            )
        if empty:
            self.link.run(empty, is_write=True, waits=False)
        return depths

    def nodes_behind(self) -> list[str]:
        """See `Store.nodes_behind`."""
        nodes = sorted(set().union(*self._delayed()))
        commands = [("EXISTS", f"{tag}wait:{node}") for node in nodes for tag in self.keys.tags]
        replies = iter(self.readable(commands) if commands else ())
        return [node for node in nodes if sum(next(replies) or 0 for _ in self.keys.tags)]

    # Rows

    def parked_of(self, node: str, limit: int) -> list[ParkedRow]:
        """See `Store.parked_of`."""
        return self._oldest(node, QUEUES, limit)

    def oldest_parked(self, node: str, limit: int, purges_only: bool = False) -> list[ParkedRow]:
        """See `Store.oldest_parked`."""
        return self._oldest(node, _PURGES if purges_only else _SENDABLE, limit)

    def host_rows(self, node: str, limit: int) -> list[ParkedRow]:
        """See `Store.host_rows`."""
        return self._oldest(node, ("host:",), limit)

    def behind_parked(self, node: str, limit: int) -> list[ParkedRow]:
        """See `Store.behind_parked`."""
        return self._oldest(node, ("wait:",), limit)

    def _oldest(self, node: str, queues: Sequence[str], limit: int) -> list[ParkedRow]:
        """Return the oldest rows of all regions; a few of each are enough but for where they crowd."""
        share = min(limit, max(50, 4 * limit // self.keys.count))
        places = [(tag, queue) for tag in self.keys.tags for queue in queues]
        replies = self._first(node, places, share)
        if sum(map(len, replies)) < limit:
            crowded = [place for place, rows in enumerate(replies) if len(rows) == share < limit]
            if crowded:
                more = self._first(node, [places[place] for place in crowded], limit)
                for place, rows in zip(crowded, more, strict=True):
                    replies[place] = rows
        oldest = [row for rows in replies for row in rows]
        oldest.sort(key=lambda row: row.seq)
        return oldest[:limit]

    def _first(self, node: str, places: Sequence[tuple[str, str]], limit: int) -> list[list[ParkedRow]]:
        replies = self.readable(
            [("ZRANGE", f"{tag}{queue}{node}", 0, limit - 1, "WITHSCORES") for tag, queue in places]
        )
        return [
            rows_in(node, reply, after="?" if queue == "wait:" else "")
            for (_, queue), reply in zip(places, replies, strict=True)
        ]

    def parked_page(
        self, node: str, place: int, limit: int, purges_only: bool = False
    ) -> tuple[list[ParkedRow], int]:
        """See `Store.parked_page`: a place is a rank in the queue of each region."""
        queues = _PURGES if purges_only else _SENDABLE
        share = max(50, limit // self.keys.count)
        replies = self.readable(
            [
                ("ZRANGE", f"{tag}{queue}{node}", place, place + share - 1, "WITHSCORES")
                for tag in self.keys.tags
                for queue in queues
            ]
        )
        pages = [rows_in(node, reply) for reply in replies]
        rows = sorted((row for page in pages for row in page), key=lambda row: row.seq)
        return rows, place + share if any(len(page) == share for page in pages) else 0

    def wide_parked(self, node: str) -> list[ParkedRow]:
        """See `Store.wide_parked`."""
        replies = self.readable(
            [
                ("ZREVRANGE", f"{tag}{queue}{node}", 0, _WIDE_MAX - 1, "WITHSCORES")
                for tag in self.keys.tags
                for queue in ("wide:", "host:")
            ]
        )
        wide = [row for reply in replies for row in rows_in(node, reply)]
        wide.sort(key=lambda row: row.seq, reverse=True)
        return wide[:_WIDE_MAX]

    def parked_like(
        self, node: str, targets: Sequence[tuple[int, str]], among: Sequence[ParkedRow]
    ) -> list[ParkedRow]:
        """See `Store.parked_like`. Looks among rows just read, and drops those that went meanwhile."""
        wanted = set(targets)
        rows = {row.key: row for row in among if (row.operation, row.target) in wanted}
        present = self.present(list(rows.values()))
        return sorted((row for row in rows.values() if (node, row.key) in present), key=lambda row: row.seq)

    def parked_below(
        self, node: str, prefix: str, before: float, among: Sequence[ParkedRow]
    ) -> list[ParkedRow]:
        """See `Store.parked_below`. Looks among rows just read."""
        return [
            row
            for row in among
            if row.operation in URLS
            and row.seq < before
            and row.target.partition("://")[2].startswith(prefix)
        ]

    def present(self, rows: Sequence[ParkedRow]) -> set[tuple[str, Any]]:
        """Return node and key of those of *rows* that are still in their queue."""
        by_queue: dict[str, dict[str, ParkedRow]] = {}  # of one host-wide row there may be many, with one key
        for row in rows:
            tag = self.keys.tags[self.keys.region(row.task_id)]
            read = Row.read(row)
            by_queue.setdefault(f"{tag}{read.queues[0]}", {})[read.member] = row
        replies = self.link.all([("ZMSCORE", name, *of_queue) for name, of_queue in by_queue.items()])
        return {
            (row.node, row.key)
            for of_queue, reply in zip(by_queue.values(), replies, strict=True)
            for row, score in zip(of_queue.values(), reply, strict=True)
            if score is not None
        }

    def queues_behind(self, by_task: Mapping[str, Sequence[Delivered]]) -> dict[str, list[str]]:
        """Return, per task, the queues of rows that wait for what was delivered."""
        asked = [
            (task_id, list({settled.row.target for settled in settled_rows}))
            for task_id, settled_rows in by_task.items()
            if settled_rows
        ]
        replies = self.link.all(
            [
                ("HMGET", f"{self.keys.tags[self.keys.region(task_id)]}behind:{task_id}", *targets)
                for task_id, targets in asked
            ]
        )
        queues: dict[str, list[str]] = {}
        for (task_id, _), texts in zip(asked, replies, strict=True):
            nodes = {node for text in texts if text for node, *_ in msgspec.json.decode(text)}
            if nodes:
                queues[task_id] = [queue + node for node in sorted(nodes) for queue in (*QUEUES, "wide:")]
        return queues

    def expired(self, node: str, before_at: float, limit: int) -> list[ParkedRow]:
        """See `Store.expired`."""
        below = f"({before_at!r}"
        places = [(tag, queue) for tag in self.keys.tags for queue in QUEUES]
        replies = self.readable(
            [
                ("ZRANGEBYSCORE", f"{tag}{queue}{node}", "-inf", below, "WITHSCORES", "LIMIT", 0, limit)
                for tag, queue in places
            ]
        )
        rows = [
            row
            for (_, queue), reply in zip(places, replies, strict=True)
            for row in rows_in(node, reply, after="?" if queue == "wait:" else "")
        ]
        return rows[:limit]

    def count_parked(self, node: str, operations: Sequence[int]) -> list[tuple[int, str, int, float]]:
        """See `Store.count_parked`."""
        share = max(50, _COUNTED_ROWS // self.keys.count)
        replies = self.readable(
            [
                ("ZRANGE", f"{tag}{queue}{node}", 0, share - 1, "WITHSCORES")
                for tag in self.keys.tags
                for queue in QUEUES
            ]
        )
        found: dict[tuple[int, str], tuple[int, float]] = {}
        for row in (row for reply in replies for row in rows_in(node, reply)):
            if row.operation in operations:
                key = (row.operation, host_of(row.target))
                count, oldest_at = found.get(key, (0, row.parked_at))
                found[key] = (count + 1, min(oldest_at, row.parked_at))
        return [(*key, *counted) for key, counted in found.items()]

    def prefetches_behind(self, node: str, purges: Sequence[tuple[str, str]]) -> list[ParkedRow]:
        """See `Store.prefetches_behind`."""
        targets: dict[str, list[str]] = {}
        for task_id, target in purges:
            targets.setdefault(task_id, []).append(target)
        replies = self.link.all(
            [
                ("HMGET", f"{self.keys.tags[self.keys.region(task_id)]}behind:{task_id}", *of_task)
                for task_id, of_task in targets.items()
            ]
        )
        return [
            ParkedRow(member, 0.0, node, int(operation), target, task_id, after, 0.0)
            for (task_id, of_task), texts in zip(targets.items(), replies, strict=True)
            for target, text in zip(of_task, texts, strict=True)
            for name, operation, after, member in (msgspec.json.decode(text) if text else ())
            if name == node and operation == _PREFETCH and node in after.split(",")
        ]
