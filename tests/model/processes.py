"""Which process the code that runs belongs to."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio


class Process:
    """What one process consists of."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_dead = False
        self.context = contextvars.copy_context()
        self.context.run(PROCESS.set, self)
        self.tasks: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"<Process {self.name}{' (dead)' if self.is_dead else ''}>"


PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


def current_process() -> Process | None:
    """Return the process whose code runs; None: the world outside."""
    return PROCESS.get()


def is_dead(context: contextvars.Context) -> bool:
    """Tell whether the process of a context has been killed."""
    process = context.get(PROCESS)
    return process is not None and process.is_dead
