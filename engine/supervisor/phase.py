"""Where a supervisor is in its life, and what it may begin there."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from .errors import SupervisorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .reload import Reload


class Phase:
    """Starting, serving, reloading, replacing itself, stopping: who begins one of them says so here.

    Attributes:
        reload: the one that is under way.
        waiting: begins when nothing is under way any more.
    """

    def __init__(self) -> None:
        self.reload: Reload | None = None
        self.waiting: Callable[[], None] | None = None
        self._is_started = False
        self._is_replacing = False
        self._stop = asyncio.Event()

    @property
    def state(self) -> str:
        """``starting serving reloading baking stopping``."""
        if self.is_stopping:
            return "stopping"
        if not self._is_started:
            return "starting"
        if self.reload is None:
            return "serving"
        return "baking" if self.reload.stage == "bake" else "reloading"

    @property
    def is_stopping(self) -> bool:
        """Whether the end has begun."""
        return self._stop.is_set()

    def refuse_if_busy(self) -> None:
        """Make sure that a reload or a replacement may begin.

        Raises:
            SupervisorError: says what is under way.
        """
        if self.reload is not None:
            raise SupervisorError(f"a reload to {self.reload.target} is under way")
        if self.state != "serving" or self._is_replacing:
            raise SupervisorError(f"the supervisor is {'replacing' if self._is_replacing else self.state}")

    def begin_when_free(self, begin: Callable[[], None]) -> bool:
        """Begin something as soon as nothing is under way; return whether that is now.

        What waits already gives way to it: the later one finds what the earlier one would have found.
        """
        self.waiting = begin
        self._go_on()
        return self.waiting is None

    def _go_on(self) -> None:
        begin = self.waiting
        if begin is not None and self.state == "serving" and not self._is_replacing:
            self.waiting = None
            begin()

    def serve(self) -> None:
        """Note that the first workers accept."""
        self._is_started = True
        self._go_on()

    def begin_reload(self, reload: Reload) -> None:
        """Note that a reload is under way, until `end_reload`."""
        self.reload = reload

    def end_reload(self) -> None:
        """Note that the reload is over, however it went."""
        self.reload = None
        self._go_on()

    @contextlib.contextmanager
    def replacing(self) -> Iterator[None]:
        """Keep everything else from beginning while the supervisor tries to replace itself."""
        self._is_replacing = True
        try:
            yield
        finally:
            self._is_replacing = False
            self._go_on()

    def stop(self) -> None:
        """Begin the end, whatever is under way."""
        self._stop.set()

    async def stopped(self) -> None:
        """Wait until the end begins."""
        await self._stop.wait()
