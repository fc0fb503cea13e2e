"""Whether this engine should get requests, and why not."""

from __future__ import annotations

import asyncio
from typing import Protocol

from engine.errors import StoreError


class Saves(Protocol):
    """How the savers fare; see `SaverPool`."""

    @property
    def error(self) -> StoreError | None:
        """What the store fails with at the moment, or None."""

    @property
    def is_partial(self) -> bool:
        """Whether tasks are still saved, though not all of them."""


class Readiness:
    """How far the engine has come: starting, prepared, draining, ending. `Lifecycle` tells it.

    Args:
        savers: without a store that can be written no task can be accepted.
    """

    def __init__(self, savers: Saves) -> None:
        self._savers = savers
        self._prepared = asyncio.Event()
        self.waits_for = ""  #: what the start has to wait for
        self.is_draining = False  #: the engine was asked to end
        self.is_ending = False  #: the store is being closed, or is closed

    def __repr__(self) -> str:
        return f"<Readiness: {self.not_ready_reason() or 'ready'}>"

    def not_ready_reason(self) -> str:
        """Return why new requests should go elsewhere, or an empty text."""
        if not self._prepared.is_set():
            return f"the engine is starting: {self.waits_for}" if self.waits_for else "the engine is starting"
        if self.is_draining:
            return "the engine is draining"
        if self._savers.error is not None and not self._savers.is_partial:
            return f"the store fails: {self._savers.error}"
        return ""

    async def wait_prepared(self, limit_s: float) -> None:
        """Wait until the engine is prepared.

        Raises:
            StoreError: that takes longer than *limit_s*.
        """
        try:
            await asyncio.wait_for(self._prepared.wait(), limit_s)
        except TimeoutError:
            raise StoreError("the worker is starting") from None

    # Told by the lifecycle

    def note_prepared(self) -> None:
        """The engine holds what the store has, and can take requests."""
        self._prepared.set()

    def note_draining(self) -> None:
        """The engine was asked to end."""
        self.is_draining = True

    def note_ending(self) -> None:
        """The store is about to be closed."""
        self.is_draining = self.is_ending = True
