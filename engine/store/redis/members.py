"""What the engines of one Redis know of each other: who lives, who leads, what the dead have left.

Every engine process is a *consumer* of the regions' streams, under a name that no other ever had. It says
that it lives by a key that expires. What a consumer without that key still has is taken from it entry by
entry (`take`), which fails when somebody else was faster. The leader is who holds one more such key; each
time that changes hands a number is counted up, and what a leader does carries it: a region that has seen a
higher one refuses (`CHANGE`, `FENCE`), so one that slept through its end does no harm.

Blocking, like the store; called by threads of the cluster's own.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from engine.errors import StoreError
from engine.store.redis.keys import GROUP, has_no_group
from engine.store.redis.member_scripts import BEAT, BURY, DEPOSE, FENCE, GONE, GROW, LEAVE, LOCK, TAKE, UNLOCK
from engine.store.redis.records import Taken, written_at
from engine.tasks.records import Committed
from engine.tasks.words import State

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from engine.store.redis.store import RedisStore
    from engine.tasks.records import Callback

LEFT = b"left"
_CLAIM_MS = 10_000
_INBOX_MS = 60_000
_DUE_MAX = 500


class About(msgspec.Struct):
    """What an engine says of itself. Fields are only added."""

    name: str = ""
    host: str = ""
    pid: int = 0
    process: str = ""  #: tells processes of one number apart: boot, namespace, start
    version: str = ""
    listen: str = ""
    started_at: float = 0.0
    nodes: list[str] = []
    is_draining: bool = False  #: it takes no more work over
    clock_ahead_s: float = 0.0  #: of the store's; less than 0: it is behind
    beats: int = 0  #: grows with each sign of life; 0: of a version that does not say
    kept_count: int = 0  #: so often did a task of it begin to keep rows of a node in memory
    keeps: dict[str, int] = {}  #: node that it cannot reach → that count at the oldest task which keeps some


class Member(msgspec.Struct):
    """An engine, as the others see it."""

    consumer: str
    about: About
    lives: bool  #: it has been heard of, by the server's clock
    has_left: bool  #: it said that it ends


class View(msgspec.Struct):
    """Everybody, at one moment."""

    leader: str = ""
    fence: int = 0
    members: list[Member] = []
    at: float = 0.0  #: the store's clock, UNIX time
    own_beats: int = 0  #: of the engine that looked, as the store knew them until then; 0: it knew nothing
    seen_at: float = 0.0  #: the monotonic clock of this host then
    clock_ahead_s: float = (
        0.0  #: of this host's wall clock, before the store's; known to half of the answer's time
    )


def about_of(text: bytes) -> About:
    """Return what an engine said of itself; nothing, if it is not there, or has left."""
    return msgspec.json.decode(text, type=About) if text and text != LEFT else About()


class Members:
    """The table of engines, as one of them works with it.

    Args:
        store: of this engine.
        ttl_s: an engine that was not heard of for so long is dead.
    """

    def __init__(self, store: RedisStore, ttl_s: float) -> None:
        self.store = store
        self._link = store.link
        self._keys = store.keys
        self._ttl_ms = int(ttl_s * 1000)
        self._known: set[str] = set()  # other engines

    def beat(self, about: About, *, may_lead: bool) -> View:
        """Say that this engine lives, lead if nobody does, and return who is there."""
        name = self._keys.cluster
        me = self.store.consumer
        began_at = time.monotonic()
        reply = self._link.one(
            *BEAT.call(
                [
                    *(name(f"beat:{me}"), name("engines"), name("leader"), name("fence")),
                    *(name(f"beat:{other}") for other in self._known),  # or a slot on the move hides them
                ],
                [me, msgspec.json.encode(about), self._ttl_ms, name("beat:"), "1" if may_lead else "0"],
            ),
            is_write=True,
        )
        ended_at = time.monotonic()
        view = View(reply[0].decode(), int(reply[1]))
        view.at = int(reply[2]) + int(reply[3]) / 1e6
        view.seen_at = (began_at + ended_at) / 2
        view.clock_ahead_s = time.time() - ended_at + view.seen_at - view.at
        view.own_beats = about_of(reply[4]).beats
        for consumer, text, lives in zip(*[iter(reply[5:])] * 3, strict=True):
            has_left = text == LEFT
            about = about_of(text)
            view.members.append(Member(consumer.decode(), about, bool(lives), has_left))
        self._known = {member.consumer for member in view.members} - {me}
        return view

    def leave(self) -> None:
        """Say that this engine ends: the others look at once for what it leaves."""
        name = self._keys.cluster
        me = self.store.consumer
        self._link.all(
            [
                ("HSET", name("engines"), me, LEFT),
                LEAVE.call(
                    [name(f"beat:{me}"), name("leader"), name("engines")], [me, name("inbox:"), _INBOX_MS]
                ),
            ],
            is_write=True,
        )

    def pending(self, missing: set[int] | None = None) -> dict[str, dict[int, int]]:
        """Return consumer → region → how many entries it has there; also of consumers that are forgotten.

        Args:
            missing: regions that cannot be read, and are left out, are added to it.
        """
        commands = [("XINFO", "CONSUMERS", stream, GROUP) for stream in self._keys.streams]
        try:
            replies = self.store.readable(commands)
        except StoreError as exc:
            if not has_no_group(exc):
                raise
            self.store.mend()
            replies = self.store.readable(commands)
        by_consumer: dict[str, dict[int, int]] = {}
        for region, reply in enumerate(replies):
            if reply is None:
                if missing is not None:
                    missing.add(region)
                continue
            for listed in reply:
                facts = dict(zip(*[iter(listed)] * 2, strict=True))
                counts = by_consumer.setdefault(facts[b"name"].decode(), {})
                if facts[b"pending"]:
                    counts[region] = facts[b"pending"]
        return by_consumer

    def oldest(self, pending: Mapping[str, Mapping[int, int]]) -> dict[str, float]:
        """Return consumer → UNIX seconds of its oldest entry, for what `pending` returned."""
        asked = [(consumer, region) for consumer, regions in pending.items() for region in regions]
        commands = [
            ("XPENDING", self._keys.streams[region], GROUP, "-", "+", 1, consumer)
            for consumer, region in asked
        ]
        replies = self.store.readable(commands) if commands else []
        oldest: dict[str, float] = {}
        for (consumer, _), reply in zip(asked, replies, strict=True):
            if reply:
                at = written_at(reply[0][0].decode())
                oldest[consumer] = min(at, oldest.get(consumer, at))
        return oldest

    def entries_of(self, consumer: str, region: int, *, idle_ms: int = 0) -> Iterator[list[str]]:
        """Yield ids of a consumer's entries in a region, some at a time; see `RedisStore.pending`."""
        yield from self.store.pending(region, consumer, idle_ms=idle_ms)

    def take(self, consumer: str, region: int, ids: list[str]) -> list[Taken]:
        """Take entries from a consumer, which may be this one; those that it has no more are left out.

        Those that cannot be read are left where they are.
        """
        stream = self._keys.streams[region]
        tag = self._keys.tags[region]
        read = self._link.all([("XRANGE", stream, entry, entry) for entry in ids])
        entries = list(self.store.read_entries(region, read))
        commands = [
            TAKE.call(
                [stream, *(f"{tag}task:{record.id}" for record in entry.accepted)],
                [GROUP, self.store.consumer, consumer, entry.id],
            )
            for entry in entries
        ]
        gone = [entry for entry, reply in zip(ids, read, strict=True) if not reply]
        commands += [GONE.call([stream], [GROUP, entry]) for entry in gone]
        taken: list[Taken] = []
        for entry, reply in zip(entries, self._link.all(commands, is_write=True), strict=False):
            if reply is None:
                continue
            entry_taken = Taken(region, entry, [], {})
            for record, progress in zip(entry.accepted, reply, strict=True):
                if progress != b"{":
                    entry_taken.records.append(record)
                    if progress:
                        entry_taken.progress[record.id] = progress
            taken.append(entry_taken)
        plans = self.store.plans([record for one in taken for record in one.records])
        for one in taken:
            one.plans = plans
        return taken

    def bury(self, consumer: str) -> bool:
        """Forget a consumer that has nothing left; return whether that is so everywhere."""
        replies = self._link.run(
            [BURY.call([stream], [GROUP, consumer]) for stream in self._keys.streams], is_write=True
        )
        if not all(reply == 1 for reply in replies):
            return False
        self._link.all(
            [
                ("HDEL", self._keys.cluster("engines"), consumer),
                ("DEL", self._keys.cluster(f"inbox:{consumer}")),
            ],
            is_write=True,
        )
        self.depose(consumer)
        return True

    def depose(self, consumer: str) -> None:
        """End the lead of a consumer that has gone."""
        self._link.one(*DEPOSE.call([self._keys.cluster("leader")], [consumer]), is_write=True)

    # Messages

    def send(self, consumer: str, message: str) -> None:
        """Leave a message for an engine."""
        inbox = self._keys.cluster(f"inbox:{consumer}")
        self._link.all([("RPUSH", inbox, message), ("PEXPIRE", inbox, _INBOX_MS)], is_write=True)

    def receive(self, wait_s: float) -> str:
        """Wait for a message to this engine; empty when none came."""
        reply = self._link.one("BLPOP", self._keys.cluster(f"inbox:{self.store.consumer}"), wait_s)
        return reply[1].decode() if reply else ""

    # Delivery of delay queues

    def lock(self, node: str, of: str = "") -> str:
        """Claim a node's queue, or keep it, also when it is *of* another engine.

        Returns:
            The consumer whose it stays; empty when it is this one's.
        """
        command = LOCK.call([self._keys.lock(node)], [self.store.consumer, _CLAIM_MS, of])
        return str(self._link.one(*command, is_write=True).decode())

    def unlock(self, node: str) -> None:
        """Let others have a node's queue."""
        self._link.one(*UNLOCK.call([self._keys.lock(node)], [self.store.consumer]), is_write=True)

    # What the leader does

    def fence(self, number: int, regions: Collection[int]) -> set[int] | None:
        """Tell *regions* that leader *number* leads; return those that know now. None: there is a later one.

        Raises:
            StoreError: none can be told.
        """
        replies = self._link.run(
            [FENCE.call([f"{self._keys.tags[region]}fence"], [number]) for region in regions], is_write=True
        )
        if 0 in replies:
            return None
        told = {region for region, reply in zip(regions, replies, strict=True) if reply == 1}
        if not told:
            raise replies[0]
        return told

    def grow_fence(self) -> int:
        """Have this engine's number go past what the regions have seen; 0: another engine leads.

        Whoever leads has the greatest number, unless an operator deleted it, or a failover lost it.
        """
        seen = self.store.readable([("GET", f"{tag}fence") for tag in self._keys.tags])
        keys = [self._keys.cluster("leader"), self._keys.cluster("fence")]
        command = GROW.call(keys, [self.store.consumer, max(int(number or 0) for number in seen)])
        return int(self._link.one(*command, is_write=True))

    def make_due(self, now: float, fence: int) -> tuple[list[str], list[Callback]]:
        """Make stored tasks whose time has come partial; return their states, and callbacks to be sent.

        Raises:
            StoreError: there is a later leader, or the store fails.
        """
        replies = self.store.readable(
            [
                ("ZRANGEBYSCORE", f"{tag}due", "-inf", repr(now), "LIMIT", 0, _DUE_MAX)
                for tag in self._keys.tags
            ]
        )
        ids = [one.decode() for reply in replies for one in reply or ()]
        changed: list[tuple[str, bytes, dict[str, Any]]] = []
        for task_id, value in self.store.values(ids).items():
            if value is not None and value.startswith(b"{"):
                document = msgspec.json.decode(value)
                if document["state"] == State.RUNNING:
                    document["state"] = State.PARTIAL.value
                    document["updated_at"] = now
                    changed.append((task_id, value, document))
        done = Committed()
        changed_meanwhile = self._change(changed, fence, done)
        by_tag: dict[str, list[str]] = {}
        for task_id in ids:
            if task_id in changed_meanwhile:
                continue
            by_tag.setdefault(self._keys.tags[self._keys.region(task_id)], []).append(task_id)
        self._link.all([("ZREM", f"{tag}due", *over) for tag, over in by_tag.items()], is_write=True)
        states = [document["state"] for task_id, _, document in changed if task_id not in changed_meanwhile]
        return states, done.callbacks

    def _change(
        self, changed: list[tuple[str, bytes, dict[str, Any]]], fence: int, done: Committed
    ) -> set[str]:
        """Write documents; return the tasks that were changed by others meanwhile: they come up again."""
        changed_meanwhile = set()
        commands = [
            self.store.changes.command(task_id, old, document, fence=fence, reports=True)
            for task_id, old, document in changed
        ]
        replies = self._link.run(commands, is_write=True)
        for (task_id, _, document), reply in zip(changed, replies, strict=True):
            if isinstance(reply, StoreError):
                changed_meanwhile.add(task_id)
                continue
            if reply == b"fenced":
                raise StoreError(f"leader {fence} is over: there is a later one")
            if reply == b"changed":
                changed_meanwhile.add(task_id)
            else:
                self.store.changes.note_callback(done, task_id, document, reply)
        return changed_meanwhile
