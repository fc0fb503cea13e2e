"""One worker's part in the consumer group of a stream. Blocking; called in threads.

Whose an entry is, and for how long nobody has worked on it, Redis tells by its own clock: a worker that holds
entries says again and again that they are in hand (`Group.keep`), and what nobody has said so of for
``takeover_s`` any other may claim (`Group.claim`). A consumer is deleted when it has ended and holds nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.errors import StoreError
from engine.store.redis.script import Script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.doors.redis.entries import Entry, Form
    from engine.store.redis.link import Link

_IDLE_MS: Final = 600_000
"""A consumer that got nothing for so long, and holds nothing, is deleted. One that lives is there again with
its next entry."""
_DROP: Final = Script(
    """
    if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then
        return -1
    end
    return redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
    """
)
NONE: Final = "0-0"
_NO_KEY: Final = "no such key"


class GroupLostError(StoreError):
    """The group is not there any more: the Redis has been emptied, or somebody has destroyed it."""


class Lag(msgspec.Struct, frozen=True):
    """How far a group is behind."""

    pending: int = 0  #: delivered, not acknowledged
    lag: int = 0  #: not delivered yet; Redis before 7.0 does not tell, and sometimes no Redis can
    oldest_s: float = 0.0  #: since the oldest of those that are pending was added; 0: there is none


class Group:
    """The group of one stream.

    Args:
        link: to the Redis.
        stream: its key.
        name: of the group.
        consumer: this worker's name in it.
        start: where a group begins that has not been there before: ``$`` or ``0``.
        takeover_s: see the module.
        form: how entries are read.
    """

    def __init__(
        self,
        link: Link,
        stream: str,
        name: str,
        consumer: str,
        *,
        start: str,
        takeover_s: float,
        form: Form,
    ) -> None:
        self.stream = stream
        self.consumer = consumer
        self._link = link
        self._name = name
        self._start = start
        self._takeover_ms = int(takeover_s * 1000)
        self._form = form
        self._position = ""  # what was delivered last, to any worker, as far as this one knows

    def __repr__(self) -> str:
        return f"<Group {self._name} of {self.stream}, as {self.consumer}>"

    # Being there

    def open(self) -> str:
        """Make the group where there is none; return where it begins, empty: it was there.

        Raises:
            StoreError: the Redis is away, or the key is no stream.
        """
        start = self._start_again() if self._position else self._start
        try:
            self._link.one("XGROUP", "CREATE", self.stream, self._name, start, "MKSTREAM")
        except StoreError as exc:
            if _code(exc) != "BUSYGROUP":
                raise
            start = ""
        self.look()
        return start

    def _start_again(self) -> str:
        """Return where a group goes on that was lost: nothing that is new is left out.

        An emptied Redis may have been set to an earlier time, and then its ids are lower than before.
        """
        try:
            info = _pairs(self._link.one("XINFO", "STREAM", self.stream))
        except StoreError as exc:
            if _NO_KEY in str(exc):
                return NONE
            raise
        last = info[b"last-generated-id"].decode()
        return self._position if _number(last) >= _number(self._position) else NONE

    def leave(self) -> None:
        """Delete this worker's consumer when it holds nothing: whatever it holds others claim.

        Raises:
            StoreError: the Redis is away, or does not let us run scripts.
        """
        self._link.one(*_DROP.call([self.stream], [self._name, self.consumer]))

    def clean(self) -> None:
        """Delete consumers that hold nothing and got nothing for long; raises like `leave`."""
        for one in self._link.one("XINFO", "CONSUMERS", self.stream, self._name):
            facts = _pairs(one)
            is_over = facts[b"pending"] == 0 and facts[b"idle"] > _IDLE_MS
            if is_over and facts[b"name"].decode() != self.consumer:
                self._link.one(*_DROP.call([self.stream], [self._name, facts[b"name"]]))

    # Entries

    def read(self, acked: Sequence[str], count: int, wait_s: float) -> list[Entry]:
        """Acknowledge, and return the next entries; waits for the first.

        Args:
            acked: ids.
            count: how many entries at most.
            wait_s: for so long.

        Raises:
            GroupLostError: `open` makes it again.
            StoreError: the Redis is away; what was to be acknowledged may not be.
        """
        commands: list[tuple[Any, ...]] = [("XACK", self.stream, self._name, *acked)] if acked else []
        wait = ("COUNT", count, "BLOCK", max(1, int(wait_s * 1000)))
        read = ("XREADGROUP", "GROUP", self._name, self.consumer, *wait, "STREAMS", self.stream, ">")
        replies = self._all([*commands, read])
        entries = self._form.entries(replies[-1][0][1] if replies[-1] else None)
        if entries:
            self._position = entries[-1].id
        return entries

    def acknowledge(self, ids: Sequence[str]) -> None:
        """Acknowledge; raises like `read`."""
        self._all([("XACK", self.stream, self._name, *ids)])

    def keep(self, ids: Sequence[str]) -> None:
        """Say that these are in hand; raises like `read`."""
        self._all([("XCLAIM", self.stream, self._name, self.consumer, 0, *ids, "JUSTID")])

    def claim(self, count: int) -> list[Entry]:
        """Return up to *count* entries that nobody has worked on for ``takeover_s``; raises like `read`.

        Those that are in the stream no more are among them: Redis has forgotten them.
        """
        cursor = NONE
        found: list[Entry] = []
        while len(found) < count:
            claim = ("XAUTOCLAIM", self.stream, self._name, self.consumer, self._takeover_ms, cursor)
            [reply] = self._all([(*claim, "COUNT", count - len(found))])
            found += self._form.entries(reply[1])
            found += [self._form.entry(one.decode(), None) for gone in reply[2:] for one in gone]
            cursor = reply[0].decode()
            if cursor == NONE:
                break
        return found

    # Looking

    def look(self) -> Lag:
        """Return how far the group is behind; raises like `read`."""
        groups, oldest = self._all(
            [
                ("XINFO", "GROUPS", self.stream),
                ("XPENDING", self.stream, self._name, "-", "+", 1),
            ]
        )
        facts = next((one for one in map(_pairs, groups) if one[b"name"].decode() == self._name), None)
        if facts is None:
            raise GroupLostError(f"the group {self._name!r} of the stream {self.stream!r} is gone")
        self._position = facts[b"last-delivered-id"].decode()
        oldest_s = 0.0
        if oldest:
            added_ms = int(oldest[0][0].partition(b"-")[0])
            oldest_s = max(0, self.now_ms() - added_ms) / 1000
        return Lag(facts[b"pending"], facts.get(b"lag") or 0, oldest_s)

    def now_ms(self) -> int:
        """Return the time of the server that has the stream; raises like `read`."""
        return self._link.time_ms(self.stream)

    def _all(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        try:
            return self._link.all(commands)
        except StoreError as exc:
            if _code(exc) == "NOGROUP" or _NO_KEY in str(exc):
                text = f"the group {self._name!r} of the stream {self.stream!r} is gone"
                raise GroupLostError(text) from exc
            raise


def _code(exc: StoreError) -> str:
    """Return the word that Redis begins an error with."""
    return str(exc.__cause__ or "").partition(" ")[0]


def _pairs(reply: Sequence[Any]) -> dict[bytes, Any]:
    return dict(zip(reply[::2], reply[1::2], strict=True))


def _number(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)
