"""What ``GET /v1/engine/history`` answers."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from engine.history.entries import HistoryTask  # noqa: TC001 - msgspec resolves the annotations


class HistoryPage(msgspec.Struct):
    """A page of the history, newest first; it may be empty, and others follow."""

    tasks: list[HistoryTask]
    cursor: Annotated[str | None, Meta(description="of the next page; null: this is the last one")]
    incomplete: Annotated[
        str | UnsetType,
        Meta(description="why some of it is missing: a file is damaged, a worker away, too much is at work"),
    ] = UNSET
    complete_since: Annotated[
        float,
        Meta(
            description="of tasks created until then some may be gone: the history began then, or "
            "`history_days` or `history_max_bytes` ended it"
        ),
    ] = 0.0
