"""Stored tasks that wait for rows which are not there: Redis has evicted a queue.

A row and the document that counts it change in one step, so a document that has not changed while all queues
of its region were read has as many rows as it counts. A queue is read by ZSCAN, which answers what was there
all the time; a row that changes its queue meanwhile is met in one of them, in the order in which they are
read. All of that holds for one server: what another one, after a failover, has of it is looked at anew.
What is missing fails: the journal entry went when the rows came, and nobody else knows the targets.
What waits for a row that is missing goes on, as below a parent that has failed.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from engine.errors import StoreError
from engine.store.redis.rows import Row, row_of
from engine.store.redis.script import Script
from engine.store.redis.scripts import WHO
from engine.store.redis.task_rows import QUEUES
from engine.tasks.missing import fail_missing
from engine.tasks.records import Committed, rows_of, token_of_row

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from engine.store.redis.store import RedisStore
    from engine.tasks.records import Callback, ParkedRow

_PAGE: Final = 1000
_REST: Final = 1.0  #: so long is the pause after a page, in times of that
_READ: Final = ("host:", "wait:", "delay:", "fetch:", "host:")
"""Rows are let go from ``wait:``, joined to ``host:``, and parted from there."""
REASON: Final = "lost: their rows are not in Redis any more, which has evicted keys; hand them in again"

_WAITING: Final = Script(
    """
-- KEYS index; ARGV tag, first, last. Answers how many tasks there were, then those that wait: id, document.
local ids = redis.call('ZREVRANGE', KEYS[1], ARGV[2], ARGV[3]) -- tasks are forgotten at the other end
local found = {#ids}
for _, id in ipairs(ids) do
  local key = ARGV[1] .. 'task:' .. id
  local head = redis.call('GETRANGE', key, 0, 255)
  if string.find(head, '^{.*"state": ?"partial"') or string.find(head, '^{.*"state": ?"running"') then
    found[#found + 1] = id
    found[#found + 1] = redis.call('GET', key)
  end
end
return found
"""
)


_SERVER: Final = Script(
    WHO
    + """
-- KEYS of a region. Answers which server has it: another one after a restart, too.
return who()
"""
)


class Found(NamedTuple):
    """What a look came to."""

    subtasks: int  #: that have failed
    settled: list[dict[str, Any]]  #: documents of the tasks that settled
    callbacks: list[Callback]


class _Rows:
    """The rows of a task that are there."""

    def __init__(self) -> None:
        self.by_node: Counter[str] = Counter()
        self.waiting: list[ParkedRow] = []  #: for parents
        self.tokens: set[tuple[str, str]] = set()  #: with the target, what rows that wait call those there
        self.is_known = True  #: for which parents they wait


class MissingRows:
    """Looks for such tasks. Blocking.

    Args:
        store: of this engine.
    """

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._link = store.link
        self._keys = store.keys
        self.regions = range(store.keys.count)

    def look(self, region: int, configured: Collection[str], *, now: float, fence: int) -> Found:
        """Fail what is missing in a region.

        Args:
            region: its number.
            configured: nodes of all engines, which may have rows in a queue that the region has forgotten.
            now: UNIX time by the store's clock.
            fence: number of the leader that does this.

        Raises:
            StoreError: the region cannot be read or written, or is another server's by now, or there is a
                later leader.
        """
        server = self._link.one(*_SERVER.call([f"{self._keys.tags[region]}clock"], [])).decode()
        waiting = dict(self._waiting(region))
        layers = {name: seen.layer for name, seen in self._store.last_seen().items()}
        nodes = self._nodes(region, {*configured, *layers})
        if not waiting:
            return Found(0, [], [])
        rows = self._rows(region, nodes, waiting)
        done = Committed()
        count = 0
        for task_id, text in waiting.items():
            of_task = rows.get(task_id) or _Rows()
            count += self._fail(
                task_id, text, of_task, layers, now=now, fence=fence, server=server, done=done
            )
        return Found(count, done.settled_late, done.callbacks)

    def _fail(
        self,
        task_id: str,
        text: bytes,
        rows: _Rows,
        layers: Mapping[str, str],
        *,
        now: float,
        fence: int,
        server: str,
        done: Committed,
    ) -> int:
        document: dict[str, Any] = msgspec.json.decode(text)
        missing = fail_missing(document, rows.by_node, layers, REASON, now)
        if not missing:
            return 0
        frees = sorted({queue + row.node for row in rows.waiting for queue in (*QUEUES, "wide:")})
        if rows.is_known:
            drop = self._missing_parents(task_id, rows)
        else:
            drop = [Row.read(row, must_be_there=True) for row in rows.waiting]
        command = self._store.changes.command(
            task_id, text, document, drop, frees=frees, fence=fence, server=server
        )
        reply = self._link.one(*command, is_write=True)
        if reply == b"elsewhere":
            raise StoreError(f"{self._link.url}: another server has it than when its rows were looked at")
        if reply == b"fenced":
            raise StoreError(f"leader {fence} is over: there is a later one")
        if reply == b"changed":
            return 0  # its rows were delivered meanwhile
        if not document["active"]:
            done.settled_late.append(document)
            self._store.changes.note_callback(done, task_id, document, reply)
        return missing

    def _missing_parents(self, task_id: str, rows: _Rows) -> list[Row]:
        """Return the rows that others of the task wait for, and that are not there."""
        if not rows.waiting:
            return []
        tag = self._keys.tags[self._keys.region(task_id)]
        reply = self._link.one("HGETALL", f"{tag}behind:{task_id}")
        behind = reply.items() if isinstance(reply, dict) else zip(*[iter(reply)] * 2, strict=True)
        parents = {
            (token, target.decode())
            for target, text in behind
            for _, _, after, _ in msgspec.json.decode(text)
            for token in after.split(",")
        }
        return [
            Row([f"delay:{token}"], "", target, token=token)
            for token, target in sorted(parents - rows.tokens)
        ]

    # Reading

    def _waiting(self, region: int) -> Iterator[tuple[str, bytes]]:
        """Yield id and document of the stored tasks that wait."""
        tag, first = self._keys.tags[region], 0
        while True:
            began_at = time.monotonic()
            command = _WAITING.call([f"{tag}index"], [tag, first, first + _PAGE - 1])
            count, *found = self._link.one(*command)
            for task_id, text in zip(*[iter(found)] * 2, strict=True):
                yield task_id.decode(), text
            if count < _PAGE:
                return
            first += _PAGE
            _rest(began_at)

    def _nodes(self, region: int, known: set[str]) -> set[str]:
        """Return the nodes that may have rows; a set of them that was evicted is made again."""
        tag = self._keys.tags[region]
        listed = self._link.all([("SMEMBERS", f"{tag}delayed"), ("SMEMBERS", f"{tag}hosted")])
        delayed, hosted = ({name.decode() for name in reply} for reply in listed)
        unlisted = sorted(known - delayed - hosted)
        there = iter(self._link.all([("EXISTS", f"{tag}{q}{name}") for name in unlisted for q in QUEUES]))
        found = [name for name in unlisted if sum(next(there) for _ in QUEUES)]
        if found:
            self._link.one("SADD", f"{tag}delayed", *found, is_write=True)
        return delayed | hosted | {*found}

    def _rows(self, region: int, nodes: Collection[str], waiting: Collection[str]) -> dict[str, _Rows]:
        tag = self._keys.tags[region]
        rows: dict[str, _Rows] = {}
        hosts: set[tuple[str, str]] = set()
        for queue in _READ:
            for node in nodes:
                for member in self._members(f"{tag}{queue}{node}"):
                    row = row_of(node, member, 0.0, "?" if queue == "wait:" else "")
                    if row.task_id not in waiting or (node, member) in hosts:
                        continue
                    if queue == "host:":
                        hosts.add((node, member))
                    of_task = rows.setdefault(row.task_id, _Rows())
                    of_task.waiting += [row] if row.after else []
                    for one in rows_of(row):
                        of_task.by_node[node] += 1
                        of_task.tokens.add((token_of_row(one), one.target))
        wait = [task_id for task_id, of_task in rows.items() if of_task.waiting]
        known = self._link.all([("EXISTS", f"{tag}behind:{task_id}") for task_id in wait])
        for task_id, is_known in zip(wait, known, strict=True):
            of_task = rows[task_id]
            of_task.is_known = bool(is_known)
            if not is_known:
                of_task.by_node.subtract(row.node for row in of_task.waiting)
        return rows

    def _members(self, queue: str) -> Iterator[str]:
        cursor = b"0"
        while True:
            began_at = time.monotonic()
            cursor, page = self._link.one("ZSCAN", queue, cursor, "COUNT", _PAGE)
            for member in page[::2]:
                yield member.decode()
            if cursor == b"0":
                return
            _rest(began_at)


def _rest(began_at: float) -> None:
    """Leave Redis, and this process, to others for a while."""
    time.sleep(_REST * (time.monotonic() - began_at))
