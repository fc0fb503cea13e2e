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


class ProfileQuery(WorkerQuery):
    """How a profile is taken."""

    seconds: Annotated[float, Meta(ge=0.1, le=SECONDS_MAX, description="for how long; default 30")] = 30
    rate: Annotated[float, Meta(ge=1, le=1000, description="samples a second; default 100")] = 100


class HeapQuery(WorkerQuery):
    """How memory is looked at."""

    seconds: Annotated[
        float,
        Meta(ge=0, le=SECONDS_MAX, description="between two looks, or of a trace; 0, the default: one look"),
    ] = 0
    top: Annotated[int, Meta(ge=1, le=1000, description="types or lines that are shown; default 30")] = 30
    trace: Annotated[bool, Meta(description="note what is allocated meanwhile, and where")] = False


class WireQuery(SecondsQuery):
    """How a node's wire is looked at."""

    count: Annotated[
        int, Meta(ge=1, le=1000, description="ends with so many exchanges of a worker; default 20")
    ] = 20


class LoopQuery(SecondsQuery):
    """How the loop is looked at."""

    threshold_ms: Annotated[
        float, Meta(ge=5, le=10_000, description="what keeps the loop busy for longer is slow; default 50")
    ] = 50
