"""What a node's channels may do, from the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from engine.config.tables import EngineConfig

_PURGE_BODY_MAX_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a channel may do."""

    size: int  #: connections at the most
    depth: int  #: requests in flight on one connection
    timeout_s: float  #: seconds without any answer until a connection is given up
    connect_timeout_s: float
    body_max_bytes: int  #: a longer body is not read on


def purge_limits(settings: EngineConfig) -> Limits:
    """Return what a channel for purges may do: they are pipelined."""
    return Limits(
        size=settings.connections_per_node,
        depth=settings.pipeline_depth,
        timeout_s=settings.request_timeout_s,
        connect_timeout_s=settings.connect_timeout_s,
        body_max_bytes=_PURGE_BODY_MAX_BYTES,
    )


def prefetch_limits(settings: EngineConfig) -> Limits:
    """Return what a channel for prefetches may do: each has a connection to itself until it is answered."""
    return Limits(
        size=settings.prefetch_concurrency,
        depth=1,
        timeout_s=settings.prefetch_timeout_s,
        connect_timeout_s=settings.connect_timeout_s,
        body_max_bytes=settings.prefetch_max_bytes,
    )


def rule_limits(settings: EngineConfig) -> Limits:
    """Return what a channel may do whose purges are rules of a file: one writing at a time."""
    return Limits(
        size=1,
        depth=1,
        timeout_s=settings.request_timeout_s,
        connect_timeout_s=settings.connect_timeout_s,
        body_max_bytes=0,
    )


def hand_down_limits(settings: EngineConfig) -> Limits:
    """Return what a channel to another engine may do: no connection of its own, see `engine.tree`."""
    return rule_limits(settings)
