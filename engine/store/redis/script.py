"""Lua scripts, called by their digest."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Command = tuple[Any, ...]
"""A command of Redis and its arguments."""

_sources: dict[str, str] = {}


class Script:
    """A Lua script. A server that does not know its digest is sent the source."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.sha = hashlib.sha1(source.encode()).hexdigest()  # noqa: S324 - Redis's name for it
        _sources[self.sha] = source

    def call(self, keys: Sequence[str], arguments: Iterable[Any]) -> Command:
        """Return the command that runs it."""
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)


def with_source(command: Command) -> Command:
    """Return the command that runs the script of an ``EVALSHA`` from its source."""
    return ("EVAL", _sources[command[1]], *command[2:])
