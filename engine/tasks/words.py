"""The words of the model: what a client asks for, what a node is sent, and what became of it."""

from __future__ import annotations

import enum
from typing import Final


class Action(enum.StrEnum):
    """What a client wants done."""

    PURGE = "purge"
    PREFETCH = "prefetch"


class Kind(enum.StrEnum):
    """What a target names."""

    URL = "url"
    PREFIX = "prefix"
    REGEX = "regex"
    KEY = "key"
    HOST = "host"


class State(enum.StrEnum):
    """Where a task is. ``done``, ``failed`` and ``cancelled`` are final; ``partial`` can still be done."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    DONE = "done"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL_STATES = frozenset({State.DONE, State.FAILED, State.CANCELLED})


class Operation(enum.IntEnum):
    """What is sent to a node for one target. The value is stored, so it never changes."""

    PURGE_URL = 1
    SOFT_URL = 2
    PURGE_PREFIX = 3
    SOFT_PREFIX = 4
    PURGE_REGEX = 5
    SOFT_REGEX = 6
    PURGE_KEY = 7
    SOFT_KEY = 8
    PURGE_HOST = 9
    SOFT_HOST = 10
    PREFETCH = 11


WIDE: Final = frozenset(
    {Operation.PURGE_PREFIX, Operation.SOFT_PREFIX, Operation.PURGE_HOST, Operation.SOFT_HOST}
)
"""Purges that take the URLs below them along."""
HARD: Final = {
    soft: Operation[f"PURGE_{soft.name.removeprefix('SOFT_')}"]
    for soft in Operation
    if soft.name.startswith("SOFT_")
}
"""Soft purge → the hard one of the same kind."""
SOFT: Final = frozenset(HARD)
URLS: Final = frozenset({Operation.PURGE_URL, Operation.SOFT_URL})

LATE: Final = "delayed:"
"""How the id of an internal task begins that delivers rows of a stored task: that one's id is behind it."""
LAST: Final = "last:"
"""The same of one that asks an engine, before rows of a task fail, whether it has done what they ask for."""
TOGETHER: Final = "together:"
"""The same of one that delivers rows of several tasks: a digest of the rows is behind it."""

_PURGES = {(kind.value, False): Operation[f"PURGE_{kind.name}"] for kind in Kind} | {
    (kind.value, True): Operation[f"SOFT_{kind.name}"] for kind in Kind
}

_PREFETCH: Final = Operation.PREFETCH


def operation_of(action: str, kind: str, *, soft: bool) -> Operation:
    """Return what an action on a kind of target sends."""
    return _PREFETCH if action == "prefetch" else _PURGES[kind, soft]


def host_of(target: str) -> str:
    """Return the host of a stored target of any kind."""
    if target.startswith(("http://", "https://")):  # a surrogate key may hold "://" itself
        return target.split("/", 3)[2]
    return target.partition("/")[0]


class Outcome(enum.IntEnum):
    """The one reading of a cache's answer."""

    ACKED = 0  #: the cache did it
    ABSENT = 1  #: it was not cached: what we wanted
    REFUSED = 2  #: ACL or method; an operator must act, not retried
    RETRY = 3  #: worth another attempt
    FAILED = 4  #: answered, and no attempt will change it
    UNPROVEN = 5  #: nothing shows that the cache itself answered


UNPURGED: Final = "not prefetched, because its purge failed"
"""Why a prefetch fails that would have brought the old object back."""

QUICK_ATTEMPTS: Final = 5
"""Attempts of one request, with pauses of a second at the most in between, until it is postponed."""

# States of one subtask, one byte each in `Share.states`.
BLOCKED = 0  #: a parent has not answered yet
QUEUED = 1  #: waits for its node
SENT = 2  #: on the wire
RETRYING = 3  #: waits for its next attempt
ACKED = 4
FAILED = 5
DELAYED = 6  #: its node is unreachable, or it went wrong too often; in the delay queue
CANCELLED = 7
ON_ITS_WAY: Final = frozenset({QUEUED, SENT, RETRYING})
