"""The client of engines: purges in, their proof out, and an outbox for when no engine answers.

Imports `base` and `errors` alone. Enters: calls of programs (`Client`, `AsyncClient`) and of the command
line, which talks by `http`. `operations` says what is asked and how answers are read, for all alike;
`engines` and `attempts` say which engine is asked next, and when; `connection` and `aio` carry bytes.
`outbox` keeps what no engine took, `sending` sends it. Leaves: requests to an engine, documents, errors
(`errors`).

The names below are imported when they are used: a command line that starts needs few of them, and no aiohttp.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    from engine.client.aio import AsyncClient
    from engine.client.answers import History, Share, Submitted, Task, Why
    from engine.client.client import Client
    from engine.client.errors import (
        ClientError,
        OutboxError,
        OutboxFullError,
        RefusedError,
        StillRunningError,
        UnreachableError,
    )
    from engine.client.outbox import Outbox

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "History",
    "Outbox",
    "OutboxError",
    "OutboxFullError",
    "RefusedError",
    "Share",
    "StillRunningError",
    "Submitted",
    "Task",
    "UnreachableError",
    "Why",
]

_PLACES = {"AsyncClient": "aio", "Client": "client", "Outbox": "outbox"} | dict.fromkeys(
    ("History", "Share", "Submitted", "Task", "Why"), "answers"
)


def __getattr__(name: str) -> object:
    """Import a public name when it is used for the first time."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES.get(name, 'errors')}"), name)
