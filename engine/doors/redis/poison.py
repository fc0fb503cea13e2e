"""What is refused for good, set aside in a stream of the same Redis, with its reason.

A record says where it came from (``stream`` and ``id``, or ``channel``), why it was refused (``status``,
``detail``, ``field``: those of the problem document), and what it was (``body``, cut at `BODY_MAX_BYTES`;
``body_bytes`` is how long it was).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.intake.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.intake.replies import Reply
    from engine.store.redis.link import Link

BODY_MAX_BYTES: Final = 64 * 1024
_decode = msgspec.json.Decoder(Problem).decode


class Refused(msgspec.Struct, frozen=True):
    """One that was refused."""

    source: str  #: ``stream`` or ``channel``
    name: str  #: of that
    id: str  #: of the entry; empty: a message
    body: bytes
    why: Problem

    @property
    def detail(self) -> str:
        """Why, and where it stood, in one sentence."""
        what = f"entry {self.id} of stream {self.name}" if self.id else f"a message on channel {self.name}"
        return f"{what} is refused: {self.why.detail}"


def problem_of(reply: Reply) -> Problem:
    """Return the problem that a reply tells of."""
    try:
        return _decode(reply.body)
    except msgspec.DecodeError:
        return Problem("refused", reply.status, reply.body[:200].decode(errors="backslashreplace"))


class Poison:
    """The stream of one door. Blocking; called in threads.

    Args:
        link: to the Redis.
        key: of the stream.
        count_max: about so many records are kept.
    """

    def __init__(self, link: Link, key: str, count_max: int) -> None:
        self.key = key
        self._link = link
        self._count_max = count_max

    def __repr__(self) -> str:
        return f"<Poison {self.key}>"

    def add(self, refused: Sequence[Refused]) -> None:
        """Write records.

        Raises:
            StoreError: some of them may not be written.
        """
        self._link.all([self._command(one) for one in refused])

    def _command(self, one: Refused) -> tuple[Any, ...]:
        fields: dict[str, Any] = {one.source: one.name, "id": one.id} if one.id else {one.source: one.name}
        fields |= {"status": one.why.status, "detail": one.why.detail.encode(errors="backslashreplace")}
        if one.why.field:
            fields["field"] = one.why.field.encode(errors="backslashreplace")
        fields |= {"body": one.body[:BODY_MAX_BYTES], "body_bytes": len(one.body)}
        pairs = [part for field in fields.items() for part in field]
        return ("XADD", self.key, "MAXLEN", "~", self._count_max, "*", *pairs)
