"""Cancels on their way down: what was handed to a child is cancelled there, as soon as it can be asked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from loguru import logger

from engine.base.background import Background
from engine.errors import EngineError
from engine.tree.link import LinkError
from engine.tree.piece import own_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.tasks.words import Operation
    from engine.tree.link import Link

_WAITING_MAX: Final = 100_000
_PARTS_MAX: Final = 10_000  #: tasks of which parts are known
_AT_ONCE: Final = 4
_AGAIN_S: Final = 1.0


class TakingBack:
    """What is to be cancelled at one child, kept in memory: one that is away goes on until it is told.

    Args:
        link: to the child.
        name: of the node.
    """

    def __init__(self, link: Link, name: str) -> None:
        self._link = link
        self._name = name
        self._waiting: dict[str, None] = {}
        self._parts: dict[str, set[str]] = {}  # task → ids of parts that were handed down
        self._background = Background()

    def __repr__(self) -> str:
        return f"<TakingBack at {self._name} [{len(self._waiting)} tasks]>"

    def note_part(self, task_id: str, part: str) -> None:
        """Remember that a part of a task was handed down."""
        if task_id not in self._parts and len(self._parts) >= _PARTS_MAX:
            del self._parts[next(iter(self._parts))]
        self._parts.setdefault(task_id, set()).add(part)

    def take(self, task_id: str, operations: Iterable[Operation]) -> None:
        """Cancel at the child what it may have of a task."""
        for operation in operations:
            self.add(own_id(task_id, operation))
        for part in self._parts.pop(task_id, ()):
            self.add(part)

    def add(self, handed_id: str) -> None:
        """Cancel a task of the child."""
        if len(self._waiting) < _WAITING_MAX:
            self._waiting[handed_id] = None
        if len(self._background) < _AT_ONCE:
            self._background.start(self._work())

    def close(self) -> None:
        """Cancel nothing more."""
        self._background.cancel()

    async def _work(self) -> None:
        while self._waiting:
            handed_id = next(iter(self._waiting))
            del self._waiting[handed_id]
            try:
                await self._link.cancel(handed_id)
            except LinkError:
                self._waiting[handed_id] = None
                await asyncio.sleep(_AGAIN_S)
            except EngineError as exc:
                logger.warning("{} does not cancel task {}: {}", self._name, handed_id, exc)
