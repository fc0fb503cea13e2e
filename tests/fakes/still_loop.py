"""A loop whose time stands still, and timers on it: a test calls what is due."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from engine.base.timer import Timer


class StillLoop:
    """Its time is 0; what is to be called soon is called at once, and what is to be called later never."""

    def time(self) -> float:
        return 0.0

    def call_at(self, _when: float, _callback: Callable[[], None]) -> None:
        return None

    def call_soon(self, callback: Callable[[], None]) -> None:
        callback()


def still_loop() -> asyncio.AbstractEventLoop:
    """Return such a loop."""
    loop: Any = StillLoop()
    return loop  # type: ignore[no-any-return]


def held(timer: Timer) -> dict[Any, Callable[[], None]]:
    """Return what waits in a timer, by its key."""
    return {key: bucket[key] for key, bucket in timer._bucket_of.items()}
