"""What the routes that look into a running engine take in their queries."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

SECONDS_MAX = 600


class WorkerQuery(msgspec.Struct, kw_only=True):
    """Which workers are looked into."""

    worker: Annotated[int, Meta(ge=0, le=1023, description="this one alone; default all")] | UnsetType = UNSET


class SecondsQuery(WorkerQuery):
    """For how long."""

    seconds: Annotated[float, Meta(ge=0.1, le=SECONDS_MAX, description="for how long; default 10")] = 10


class LoopQuery(SecondsQuery):
    """How the loop is looked at."""

    threshold_ms: Annotated[
        float, Meta(ge=5, le=10_000, description="what keeps the loop busy for longer is slow; default 50")
    ] = 50
