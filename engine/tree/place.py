"""Which engine this is, in paths: no task comes back to an engine that it came from.

An engine is known by the name of its key (RFC 7638). Engines of one Redis are one place: their keys are
shared, and a path with any of them in it has been here.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

from engine.errors import EngineError, RequestError
from engine.tree.words import DEPTH_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from engine.proof.receipt_key import KeyFolder, ReceiptKey
    from engine.proof.signer import Signer
    from engine.saver.reader import StoreReader

_KNOWN_S: Final = 30.0  #: for so long the keys of the place are not read again
_ABOVE_MAX: Final = 64  #: entries that are remembered, the oldest go first
_ABOVE_S: Final = 60.0  #: for so long, when they are not told again
_TOLD_MAX: Final = 4096  #: characters of them that are told at once: headers have a limit
_ENTRY: Final = re.compile(r"[!-+\--}]{1,255}~[A-Za-z0-9_-]{43}")
_MARK: Final = "~"  #: between an engine's name and its key's, in a path
_CONFLICT: Final = 409
MISSING: Final = "the tree of engines needs PyJWT and cryptography: install purgeline[receipts]"


class Place:
    """This engine's keys, those of its place, and the engines above it.

    Args:
        signer: knows the public keys of all engines of the store.
        folder: has this engine's own.
        reader: makes blocking calls.
        engine: its name.
    """

    def __init__(self, signer: Signer, folder: KeyFolder, reader: StoreReader, *, engine: str) -> None:
        self._signer = signer
        self._folder = folder
        self._reader = reader
        self.engine = engine
        self._key: ReceiptKey | None = None
        self._keys: list[str] = []
        self._kids: frozenset[str] = frozenset()
        self._read_at = float("-inf")
        self._above: dict[str, float] = {}  # entries of engines that have asked this one → when, monotonic

    def __repr__(self) -> str:
        return f"<Place of {self.engine} [{len(self._kids)} keys, {len(self._above)} above]>"

    async def key(self) -> ReceiptKey:
        """Return this engine's key.

        Raises:
            EngineError: there is none: an extra is missing, or its file cannot be read.
        """
        if self._key is None:
            self._key = await self._reader.read(self._folder.own)
            if self._key is None:
                raise EngineError(MISSING)
        return self._key

    async def keys(self) -> list[str]:
        """Return the public keys of all engines of the place (``x`` of each), this engine's first.

        Raises:
            EngineError: they cannot be read.
        """
        if time.monotonic() - self._read_at > _KNOWN_S:
            known = await self._signer.keys()
            self._keys = [key["x"] for key in known]
            self._kids = frozenset(key["kid"] for key in known)
            self._read_at = time.monotonic()
        return self._keys

    async def entry(self) -> str:
        """Return how paths name this engine.

        Raises:
            EngineError: it has no key.
        """
        return f"{self.engine}{_MARK}{(await self.key()).kid}"

    async def path_of(self, before: str) -> str:
        """Return the path of a task that is handed down from here.

        Args:
            before: the path that it came by; empty: it was handed in here.
        """
        entry = await self.entry()
        return f"{before},{entry}" if before else entry

    async def check(self, path: str, above: str, *, is_noted: bool = True) -> None:
        """Refuse tasks that have been here, and those that came through too many engines.

        Args:
            path: theirs.
            above: the engines that have asked the one that sends them.
            is_noted: these are above this one, from now on.

        Raises:
            RequestError: 409, a loop or too deep; the text names the path.
            EngineError: this engine has no key.
        """
        entries = [entry for entry in path.split(",") if entry]
        others = [entry for entry in above.split(",") if entry]
        await self.keys()
        kids = self._kids | {(await self.key()).kid}
        if any(entry.rpartition(_MARK)[2] in kids for entry in (*entries, *others)):
            is_told = any(entry.rpartition(_MARK)[2] in kids for entry in entries)
            around = [*([] if is_told else [self.engine]), *entries, self.engine]
            raise RequestError(
                _CONFLICT,
                f"loop: {_shown(around)}: what {self.engine} has handed down comes back to it; "
                'take one of these [[node]] with driver "engine" out',
            )
        if len(entries) > DEPTH_MAX:
            raise RequestError(
                _CONFLICT, f"{_shown(entries)}: at most {DEPTH_MAX} engines stand above one another"
            )
        if is_noted:
            self._note([*others, *entries], time.monotonic())

    def _note(self, entries: Sequence[str], now: float) -> None:
        """Remember engines above this one, those that ask it itself last: they stay longest."""
        for entry in entries:
            self._above.pop(entry, None)
            self._above[entry] = now
        while len(self._above) > _ABOVE_MAX:
            del self._above[next(iter(self._above))]

    def above(self) -> str:
        """Return the engines that have asked this one lately, as `engine.tree.words.ABOVE` has them."""
        since = time.monotonic() - _ABOVE_S
        told: list[str] = []
        room = _TOLD_MAX
        for entry, at in reversed(self._above.items()):
            room -= len(entry) + 1
            if at < since or room < 0:
                break
            told.append(entry)
        return ",".join(told)


def are_entries(text: str) -> bool:
    """Tell whether a header names engines, by commas, each with its key."""
    return all(_ENTRY.fullmatch(entry) for entry in text.split(",") if entry)


def _shown(entries: Iterable[str]) -> str:
    return " > ".join(entry.partition(_MARK)[0] for entry in entries)
