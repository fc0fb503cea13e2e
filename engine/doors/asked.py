"""What a client of a door asks for, whatever its protocol, and the bodies of the tasks that do it. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from engine.intake.task_body import TARGETS_MAX
from engine.nodes.drivers.patterns import grouped

_encode: Final = msgspec.json.encode


class Asked(msgspec.Struct, frozen=True):
    """What a request asks for, as fields of a task."""

    kind: str
    targets: list[str] | list[dict[str, str]]
    soft: bool = False
    prefetch: bool = False
    is_literal: bool = False  #: a URL that ends in ``*`` is meant so


def bodies_of(asked: Asked) -> list[bytes]:
    """Return the bodies of the tasks that do what is asked for: a target is never cut."""
    targets = asked.targets
    fields: dict[str, Any] = {}
    if asked.kind != "url":
        fields["kind"] = asked.kind
    if asked.soft:
        fields["soft"] = True
    if asked.prefetch:
        fields["prefetch"] = True
    if asked.is_literal:
        fields["literal"] = True
    if len(targets) <= TARGETS_MAX:
        fields["targets"] = targets
        return [_encode(fields)]
    return [
        _encode({**fields, "targets": targets[at : at + TARGETS_MAX]})
        for at in range(0, len(targets), TARGETS_MAX)
    ]


def anywhere(pattern: str) -> str:
    r"""Return a pattern for what stands behind the first slash of a path, of one for any part of the path.

    ``^/news/`` begins there and needs no more. Of any other, the slash is part of what it may match: the look
    back over it begins anew at the start of the path.
    """
    if pattern.startswith("^/") and "|" not in pattern:
        return pattern[2:]
    return f"(?<=(?=.*?{grouped(pattern)})/)"
