"""What passes between the engine and one node, while somebody asks for it."""

from __future__ import annotations

from typing import Annotated

import msgspec


class DebugExchange(msgspec.Struct):
    """A request to a node, and its answer; without secrets, control characters escaped."""

    connection: Annotated[int, msgspec.Meta(description="which of those that were seen")]
    operation: Annotated[str, msgspec.Meta(description="what was asked for; probe: whether it is there")]
    sent_at: Annotated[float | None, msgspec.Meta(description="UNIX time; null: before the look began")]
    took_ms: Annotated[float | None, msgspec.Meta(description="until the whole answer; null: not known")]
    request: Annotated[list[str], msgspec.Meta(description="lines of its head")]
    status: Annotated[int, msgspec.Meta(description="0: there is no answer")] = 0
    answer: Annotated[list[str], msgspec.Meta(description="lines of its head")] = []
    body: Annotated[str, msgspec.Meta(description="its beginning; of a prefetch nothing")] = ""
    body_bytes: int = 0
    fault: Annotated[str, msgspec.Meta(description="what is wrong with it; empty: nothing")] = ""


class DebugWireOfWorker(msgspec.Struct):
    """The exchanges of one worker with one node."""

    worker: str
    pid: int
    node: str
    state: str
    last_error: str
    seconds: float
    connections: Annotated[int, msgspec.Meta(description="that were seen")]
    exchanges: list[DebugExchange]
