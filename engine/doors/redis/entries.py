"""Entries of a stream, and the tasks that they are. Pure.

The id of a task is made of where its entry stands, and of what is in it: an entry that is delivered again,
after a crash or to another worker, is the same task, which the intake knows. A publisher that names an ``id``
of its own is left to it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHOWN_MAX_BYTES: Final = 16 * 1024  #: of an entry without a task; to decode what is no text takes its time
_ID_HASH_BYTES: Final = 8  #: with the longest id of an entry, the id of a task is as long as one may be
_decode: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode: Final = msgspec.json.encode


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One entry of a stream."""

    id: str
    text: bytes  #: as it was published; of a ``fault`` all that the entry has
    body: bytes = b""  #: of the task
    fault: str = ""  #: why it is no task; empty: the intake will tell
    is_deleted: bool = False  #: it has been taken out of the stream before it was read

    @property
    def at_ms(self) -> int:
        """UNIX milliseconds at which it was added, by the clock of its server, unless its publisher chose."""
        return int(self.id.partition("-")[0])


class Form(msgspec.Struct, frozen=True):
    """How the entries of one stream are read."""

    place: str  #: Redis, stream and group, as part of what ids are made of
    field: str  #: of an entry, that has the task
    body_max_bytes: int  #: a longer one is refused, and not read

    def entries(self, reply: Sequence[Any] | None) -> list[Entry]:
        """Return the entries of an answer of Redis: id and fields of each; none where it says nothing."""
        return [self.entry(one[0].decode(), one[1]) for one in reply or () if one]

    def entry(self, entry_id: str, fields: Sequence[bytes] | None) -> Entry:
        """Return one entry.

        Args:
            entry_id: its id.
            fields: names and values by turns; None: it is in the stream no more.
        """
        if fields is None:
            return Entry(entry_id, b"", is_deleted=True)
        values = dict(zip(fields[::2], fields[1::2], strict=True))
        value = values.get(self.field.encode())
        if value is None:
            names = ", ".join(_text(name[:40]) for name in list(values)[:8])
            fault = f"field {self.field!r} is missing; the entry has: {names}"
            return Entry(entry_id, _shown(values), fault=fault)
        if len(value) > self.body_max_bytes:
            return Entry(entry_id, value, value)
        return Entry(entry_id, value, self._with_id(entry_id, value))

    def _with_id(self, entry_id: str, body: bytes) -> bytes:
        """Return a body with the id of its task; one that is no JSON object is as it was, and refused so."""
        try:
            values = _decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return body
        if bytes(values.get("id", b"null")) != b"null":
            return body
        digest = hashlib.blake2b(f"{self.place}\0{entry_id}\0".encode(), digest_size=_ID_HASH_BYTES)
        digest.update(body)
        values["id"] = msgspec.Raw(_encode(f"redis-{entry_id}-{digest.hexdigest()}"))
        return _encode(values)


def _shown(values: dict[bytes, bytes]) -> bytes:
    """Return the fields of an entry for whoever looks at it: the stream has all of it."""
    shown, room = {}, _SHOWN_MAX_BYTES
    for name, value in values.items():
        shown[_text(name[:room])] = _text(value[: max(0, room - len(name))])
        room -= len(name) + len(value)
        if room <= 0:
            break
    return _encode(shown)


def _text(value: bytes) -> str:
    return value.decode(errors="backslashreplace")
