"""Documents: the JSON objects that go to an engine and come back, and how targets are parted into tasks."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Document = dict[str, Any]  #: a JSON object of the engine

TARGETS_MAX = 10_000  #: targets one task may have
BODY_MAX_BYTES = 8 * 1024 * 1024
BODY_SPARE_BYTES = 16 * 1024  #: of a body, for what is not targets


def split(targets: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield *targets* in parts that one task may have, by number and by bytes."""
    for start in range(0, len(targets), TARGETS_MAX):
        yield from _halve(targets[start : start + TARGETS_MAX])


def encode(document: Document | Sequence[str]) -> bytes:
    """Return *document* as JSON; equal documents give equal bytes, so the engine recognises a repeat."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def new_id() -> str:
    """Return a task id that nobody else uses."""
    return os.urandom(16).hex()


def _halve(targets: Sequence[str]) -> Iterator[Sequence[str]]:
    if len(targets) > 1 and len(encode(targets)) > BODY_MAX_BYTES - BODY_SPARE_BYTES:
        middle = len(targets) // 2
        yield from _halve(targets[:middle])
        yield from _halve(targets[middle:])
    else:
        yield targets
