"""What a rewind sends, as bodies of tasks, and what it leaves out. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from engine.api.schemas import RewindLeftOut
from engine.errors import RequestError
from engine.history.missed import TARGETS_MAX
from engine.tasks.words import Kind, host_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engine.history.missed import Key, Missed, Slice

_TARGETS_PER_TASK: Final = 10_000
_NOT_A_SITE: Final = "their hosts are not among the sites of the engine and of the token"


class Part(NamedTuple):
    """The body of one task, and how many targets it sends."""

    body: bytes
    targets: int


def bodies(node: str, part: Slice, began: float) -> list[Part]:
    """Return the tasks that send a part of a rewind which began at *began*, UNIX time."""
    fields: dict[str, Any] = {
        "nodes": [node],
        "kind": part.kind,
        "soft": part.soft,
        "on_incapable": "refuse",
        "confirm": True,  # their clients have done so
    }
    if part.after_s:
        fields["start_at"] = began + part.after_s
    if part.kind == Kind.URL and any(target.endswith("*") for target in part.targets):
        fields["literal"] = True
    split = [
        part.targets[place : place + _TARGETS_PER_TASK]
        for place in range(0, len(part.targets), _TARGETS_PER_TASK)
    ]
    return [Part(msgspec.json.encode({**fields, "targets": targets}), len(targets)) for targets in split]


def sendable(
    missed: Missed, lacks: Mapping[tuple[str, bool], str], allows: Callable[[str], bool]
) -> tuple[list[Key], list[RewindLeftOut]]:
    """Return what the node can do, and the client may ask for; and what is left out."""

    def why_not(key: Key) -> str:
        host = host_of(key[2])
        return lacks[key[0], host.startswith("*.")] or ("" if allows(host) else _NOT_A_SITE)

    allowed: list[Key] = []
    left: dict[tuple[str, str], int] = {}
    for key in missed.in_order(lambda key: not why_not(key)):
        if reason := why_not(key):
            left[key[0], reason] = left.get((key[0], reason), 0) + 1
        else:
            allowed.append(key)
    return allowed, [RewindLeftOut(kind, count, reason) for (kind, reason), count in left.items()]


def too_many(count: int) -> RequestError:
    """Return the error of a rewind that has so many targets."""
    return RequestError(
        422,
        f"since: {count} targets were purged, and a rewind has {TARGETS_MAX} at the most: take a shorter "
        "time, or one host after the other; or empty the cache",
        field="since",
    )
