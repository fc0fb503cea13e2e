"""Pausing a node: nothing is sent to it, nor is it asked anything, until it is resumed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.nodes.node import Node


def pause(node: Node, reason: str, since: float) -> None:
    """Send nothing more; what is on the wire ends as it ends, and the rest goes to the delay queue.

    Args:
        node: in whatever state.
        reason: who paused it, and when, as tasks say it.
        since: UNIX time of that.
    """
    node.health.pause(reason, since)
    node.proving.rest()
    node.prefetches.put_back(node.fetches.take_entering())
    node.park_all()


def resume(node: Node) -> None:
    """Ask whether the node answers; when it does, what waits for it is delivered."""
    if node.health.resume():
        node.proving.begin_anew()
