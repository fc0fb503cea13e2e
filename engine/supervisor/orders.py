"""What supervisor and worker tell each other on the worker's control socket: one JSON object a line.

The supervisor sends orders (``cmd``: ``peers go drain adopt``), a worker sends events (``event``: ``accepting
health``). What a side does not know it passes over, so that each may be a version newer than the other.
"""

from __future__ import annotations

import json
from typing import Any, Final

PROTOCOL: Final = 1  #: what ``PURGELINE_WORKER`` says
READ_BYTES: Final = 64 * 1024


def order(command: str, **fields: Any) -> bytes:
    """Return the line of an order."""
    return json.dumps({"cmd": command, **fields}).encode() + b"\n"


def events(unread: bytes, data: bytes) -> tuple[list[dict[str, Any]], bytes]:
    """Return the events that are whole, and what was read beyond them.

    Args:
        unread: what the call before read beyond.
        data: what has come now.
    """
    *lines, unread = (unread + data).split(b"\n")
    told = []
    for line in lines:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            told.append(event)
    return told, unread[-READ_BYTES:]


def texts(event: dict[str, Any], name: str) -> dict[str, str]:
    """Return a field that maps words to sentences; of another version, which has none, nothing."""
    found = event.get(name)
    return {str(word): str(text) for word, text in found.items()} if isinstance(found, dict) else {}


def word(event: dict[str, Any], name: str) -> str:
    """Return a field that is a word; of another version, which has none, an empty text."""
    found = event.get(name)
    return found if isinstance(found, str) else ""


def counts(event: dict[str, Any], *names: str) -> list[int] | None:
    """Return the numbers of an event by their names; None when one is missing or is no count."""
    values = [event.get(name) for name in names]
    found = [value for value in values if type(value) is int and value >= 0]
    return found if len(found) == len(names) else None
