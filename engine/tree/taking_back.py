"""Cancels on their way down: what was handed to a child is cancelled there, as soon as it can be asked.

A task is named, and stands for all of its parts: which these are the child knows, whoever handed them down.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec
from loguru import logger

from engine.base.background import FewAtOnce
from engine.errors import EngineError
from engine.tasks.handed_ids import own_id
from engine.tree.link import LinkError, RefusedError
from engine.tree.words import CANCEL, CANCEL_SINCE, IDS_MAX, Cancel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from engine.tasks.words import Operation
    from engine.tree.link import Link
    from engine.tree.place import Place

_WAITING_MAX: Final = 100_000
_AT_ONCE: Final = 4
_AGAIN_S: Final = 1.0
_encode = msgspec.json.encode


class TakingBack:
    """What is to be cancelled at one child, kept in memory: one that is away goes on until it is told.

    Args:
        link: to the child.
        place: this engine's.
        name: of the node.
        version: tells which version of the protocol the child speaks; 0: that is not known yet.
    """

    def __init__(self, link: Link, place: Place, name: str, version: Callable[[], int]) -> None:
        self._link = link
        self._place = place
        self._name = name
        self._version = version
        self._waiting: dict[str, None] = {}
        self._at_work = FewAtOnce(self._work, _AT_ONCE)

    def __repr__(self) -> str:
        return f"<TakingBack at {self._name} [{len(self._waiting)} tasks]>"

    def take(self, task_id: str, operations: Iterable[Operation]) -> None:
        """Cancel at the child what it may have of a task."""
        for operation in operations:
            self.add(own_id(task_id, operation))

    def add(self, handed_id: str) -> None:
        """Cancel a task of the child."""
        if len(self._waiting) < _WAITING_MAX:
            self._waiting[handed_id] = None
        self._at_work.wake()

    def close(self) -> None:
        """Cancel nothing more."""
        self._at_work.cancel()

    async def _work(self) -> None:
        while self._waiting:
            names = list(islice(self._waiting, IDS_MAX))
            for name in names:
                del self._waiting[name]
            try:
                await self._cancel(names)
            except LinkError:
                self._waiting |= dict.fromkeys(names)
                await asyncio.sleep(_AGAIN_S)
            except EngineError as exc:
                shown = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")  # noqa: PLR2004 - some
                logger.warning("{} does not cancel {}: {}", self._name, shown, exc)

    async def _cancel(self, names: list[str]) -> None:
        """Have tasks cancelled; an older child is not asked for their parts.

        Raises:
            EngineError: it does not do it; `LinkError`: now.
        """
        version = self._version()
        if not version or version >= CANCEL_SINCE:  # one that has not told its version may know the route
            path = await self._place.path_of("")
            try:
                await self._link.post(CANCEL, _encode(Cancel(names)), path=path)
            except (
                RefusedError
            ) as exc:  # of the version before, or a worker of it while the child is reloaded
                logger.warning("{} is told of cancels one by one: {}", self._name, exc)
            else:
                return
        for name in names:
            await self._link.cancel(name)
