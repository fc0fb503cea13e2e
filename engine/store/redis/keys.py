"""Names of keys in Redis.

Everything of one region has one hash tag, ``purgeline:{region-07}:…``, so what belongs together is on one
server of a cluster and changes in one script: a task's document, the rows it left in delay queues, its
journal entry and its callback. What the engines know of each other is under ``purgeline:{cluster}:…``;
``seen`` there is a hash, node → when it was configured last, or found to be gone, by the server's clock;
and its layer; ``rewind:NODE`` is a rewind, see `rewinds`; ``paused`` is a hash, node → what was said last
of its pause; ``silences`` is a hash, id → silence of alerts; ``receipt_keys`` those of receipts, by name;
``trigger…`` is for those of other CDNs, see `triggers`.

A region's keys:

- ``tasks``      stream, the journal, with the consumer group ``engines``
- ``task:ID``    string: a document (``{…``), or of a task at work ``@CONSUMER ENTRY[ progress]``
- ``index``      sorted set, ids by creation, for listing
- ``due``        sorted set, ids of stored tasks by the time at which they become partial
- ``delayed``    set of the nodes that have rows
- ``delay:NODE fetch:NODE wait:NODE``  sorted sets, rows by time: purges, prefetches, what waits for parents
- ``wide:NODE``  sorted set, those rows of ``delay:NODE`` that are prefix and host purges
- ``hosted``     set of the nodes that have, or had, host-wide rows
- ``host:NODE``  sorted set, those rows by time; see `host_rows`
- ``behind:ID``  hash, target → rows that wait for parents
- ``underway``   stream, prefetches that engines begin and end, by host: in the first regions; its entries
                 stay for the time in ``underway:kept``; ``underway:looked`` is written by looks
- ``plan:KEY``   string, a plan that tasks were accepted for; kept for months after its last use
- ``settled…``, ``block…``, ``change:ID``  the history; see `history`
- ``begun:ID``   of a task that was accepted for later and has begun: when it was accepted, and its plan's key
- ``clock``      the time that was given to a row last; see `scripts`
- ``fence``      the highest number of a leader that changed something here
"""

from __future__ import annotations

from typing import Final

from engine.tasks.shards import shard_of
from engine.tasks.words import Operation

GROUP: Final = "engines"
PLAN_MS: Final = 90 * 86400 * 1000
"""A plan is kept so long after its last use: tasks that name it wait for an engine, no longer than that."""


class Keys:
    """Names under one prefix.

    Args:
        prefix: ``store.prefix``.
        region_count: regions, which are numbered from 0.
    """

    def __init__(self, prefix: str, region_count: int) -> None:
        self.count = region_count
        self._prefix = prefix
        self.tags = [f"{prefix}:{{region-{number:02d}}}:" for number in range(region_count)]
        self.streams = [f"{tag}tasks" for tag in self.tags]

    def region(self, task_id: str) -> int:
        """Return the number of a task's region."""
        return shard_of(task_id, self.count)

    def task(self, task_id: str) -> str:
        """Return the key of a task's document."""
        return f"{self.tags[self.region(task_id)]}task:{task_id}"

    def plan(self, region: int, key: bytes) -> str:
        """Return the key of a plan that tasks of a region were accepted for."""
        return f"{self.tags[region]}plan:{key.hex()}"

    def begun(self, region: int, task_id: str) -> str:
        """Return the key that says that a task which was accepted for later has begun."""
        return f"{self.tags[region]}begun:{task_id}"

    def underway(self, region: int) -> str:
        """Return the key of the log of prefetches in a region."""
        return f"{self.tags[region]}underway"

    def cluster(self, name: str) -> str:
        """Return a key of what the engines know of each other."""
        return f"{self._prefix}:{{cluster}}:{name}"

    def lock(self, node: str) -> str:
        """Return the key that says which engine delivers a node's rows."""
        return f"{self._prefix}:{{deliver-{node}}}:lock"


def queue_of(operation: int, after: str) -> str:
    """Return the queue of a row, without the node's name."""
    if after:
        return "wait:"
    return "fetch:" if operation == Operation.PREFETCH else "delay:"


def member_of(operation: int, task_id: str, target: str) -> str:
    """Return what a row is called in its queue; the same row has always the same name."""
    return f"{int(operation)} {task_id} {target}"


def has_no_group(error: Exception) -> bool:
    """Tell whether an error says that a stream, or its consumer group, is not there: Redis was emptied."""
    return "NOGROUP" in str(error) or "no such key" in str(error)
