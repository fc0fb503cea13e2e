"""Triggers as they are kept, and as their tasks have them now.

A record is written anew when its tasks have changed what it says: when somebody asks, and now and then (see
`sweeping`), so that it has settled before its tasks are forgotten. Several workers and engines do so at once;
who has read an older record writes nothing, and reads again.
"""

from __future__ import annotations

import asyncio
import bisect
import math
import re
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from loguru import logger

from engine.doors.cdni.telling import errors_of
from engine.errors import RequestError, StoreError
from engine.tasks.triggers import SETTLED, as_seen
from engine.tasks.words import State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from engine.api.find import FindTask
    from engine.saver.reader import StoreReader
    from engine.store.triggers import Listed, Triggers
    from engine.tasks.triggers import Documents, Status, TriggerRecord

ID: Final = re.compile(r"[0-9a-f]{1,64}")
_ANEW_S: Final = 1.0
_LOOK_S: Final = 0.1  #: for one collection
_TRIES: Final = 5  #: to write what another worker may be writing
_AT_ONCE: Final = 16  #: triggers that are looked at together
_TOLD_OF: Final = frozenset({State.FAILED, State.CANCELLED})


class Records:
    """The triggers of all clients.

    Args:
        store: keeps them.
        reader: has threads for it, and is closed with it.
        find: finds their tasks, whichever worker has them.
        retention_s: settled tasks are kept so long.

    Attributes:
        store: as given.
    """

    def __init__(self, store: Triggers, reader: StoreReader, find: FindTask, *, retention_s: float) -> None:
        self.store = store
        self._looked: dict[str, tuple[float, str]] = {}  # token → when a collection was, and how far it came
        self._reader = reader
        self._find = find
        self._retention_s = retention_s

    async def read(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Call what takes long, such as a method of the store, in a thread."""
        return await self._reader.read(function, *arguments)

    def close(self) -> None:
        """Let go of what keeps them. Safe to call again."""
        self._reader.close()
        self.store.close()

    async def find(self, token: str, trigger_id: str) -> TriggerRecord:
        """Return a trigger as its tasks have it now.

        Raises:
            RequestError: 404, this client has none of that id.
            StoreError: it cannot be read, or a worker that has a task of it does not answer.
        """
        record = await self.look(token, trigger_id)
        if record is None:
            raise no_trigger(trigger_id)
        return record

    async def listed(self, token: str, among: frozenset[Status] | None = None) -> list[str]:
        """Return the ids of a client's triggers, oldest first.

        Args:
            token: its name.
            among: only those with one of these; None: all.

        Raises:
            StoreError: see `find`.
        """
        found = await self.read(self.store.listed, token, None if among is None else among & SETTLED)
        if among is None:
            return await self.read(_among, found, {}, None)  # type: ignore[no-any-return]
        unsettled = await self.read(_unsettled, found)
        looked_at = await self._look_anew(token, unsettled)
        status = {one.id: one.status for one in looked_at if one is not None}
        return await self.read(_among, found, status, among)  # type: ignore[no-any-return]

    async def _look_anew(self, token: str, names: list[str]) -> list[TriggerRecord | None]:
        """Look at those of a client's triggers that have not settled, of many at some more each time.

        However often a client asks, on however many connections, it is done once a second, and not for long.
        """
        now = asyncio.get_running_loop().time()
        at, behind = self._looked.get(token, (-math.inf, ""))
        if now - at < _ANEW_S:
            return []
        self._looked[token] = now, behind
        first = bisect.bisect_right(names, behind) if len(names) > _AT_ONCE else 0
        turned = [*names[first:], *names[:first]]
        found = await self.look_at([(name, token) for name in turned], limit_s=_LOOK_S)
        self._looked[token] = now, turned[len(found) - 1] if found else ""
        return found

    async def look_at(
        self, names: Sequence[tuple[str, str]], *, limit_s: float
    ) -> list[TriggerRecord | None]:
        """Return triggers, each by id and token, as their tasks have them now; None: that cannot be told.

        After *limit_s* it is enough: the rest is left out.
        """
        now = asyncio.get_running_loop().time
        until = now() + limit_s
        found: list[TriggerRecord | None] = []
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            found += await asyncio.gather(*(self._look_if_told(token, name) for name, token in some))
            if now() > until:
                break
        return found

    async def _look_if_told(self, token: str, trigger_id: str) -> TriggerRecord | None:
        """Return `look`; None also when it fails: others are told of."""
        try:
            return await self.look(token, trigger_id)
        except StoreError as exc:
            logger.debug("trigger {} is looked at later: {}", trigger_id, exc)
        except Exception as exc:  # noqa: BLE001 - one trigger that nobody foresaw would hide all others
            logger.opt(exception=exc).error("trigger {} cannot be looked at", trigger_id)
        return None

    async def look(self, token: str, trigger_id: str) -> TriggerRecord | None:
        """Return a trigger as its tasks have it now, and keep that; None: there is none.

        Raises:
            StoreError: see `find`.
        """
        if not ID.fullmatch(trigger_id):
            return None
        for _ in range(_TRIES):
            kept = await self.read(self.store.get, token, trigger_id)
            if kept is None or kept.record.status in SETTLED:
                return None if kept is None else kept.record
            seen = await self._as_seen(kept.record)
            if seen is None:
                return kept.record  # type: ignore[no-any-return]
            if await self.read(self.store.put, kept, seen):
                return seen
        raise _restless(trigger_id)

    async def change(
        self, token: str, trigger_id: str, changed: Callable[[TriggerRecord], TriggerRecord | None]
    ) -> TriggerRecord | None:
        """Change a trigger that has not settled, and return it as it is then; None: there is none.

        Args:
            token: of its client.
            trigger_id: of the trigger.
            changed: returns what it becomes; None: it stays.

        Raises:
            StoreError: see `find`.
        """
        for _ in range(_TRIES):
            kept = await self.read(self.store.get, token, trigger_id)
            if kept is None or kept.record.status in SETTLED:
                return None if kept is None else kept.record
            record = changed(kept.record)
            if record is None:
                return kept.record  # type: ignore[no-any-return]
            if await self.read(self.store.put, kept, record):
                return record
        raise _restless(trigger_id)

    async def _as_seen(self, record: TriggerRecord) -> TriggerRecord | None:
        documents = await self.documents(record)
        before = time.time() - self._retention_s
        has_more = any(one is None or one["state"] in _TOLD_OF for one in documents.values())
        read = partial(errors_of, forgotten_before=before)
        errors = await self.read(read, record, documents) if has_more else []
        return as_seen(record, documents, errors, forgotten_before=before)

    async def documents(self, record: TriggerRecord) -> Documents:
        """Return the documents of a trigger's tasks, by their ids; None: it is kept no longer.

        Raises:
            StoreError: see `find`.
        """
        return {task_id: await self._find.private(task_id) for task_id in record.tasks.values()}


def _unsettled(found: Sequence[Listed]) -> list[str]:
    """Return the ids of those that have not settled."""
    return [one.id for one in found if one.status not in SETTLED]


def _among(
    found: Sequence[Listed], newer: Mapping[str, Status], among: frozenset[Status] | None
) -> list[str]:
    """Return the ids of those that have a status of *among*, None: of all; *newer* is known of some."""
    if among is None:
        return [one.id for one in found]
    return [one.id for one in found if newer.get(one.id, one.status) in among]


def no_trigger(trigger_id: str) -> RequestError:
    """Return the 404 for a trigger that is not there, or is another client's."""
    return RequestError(404, f"there is no trigger {trigger_id[:80]!r}")


def _restless(trigger_id: str) -> StoreError:
    return StoreError(f"the trigger {trigger_id} changes all the time; ask again")
