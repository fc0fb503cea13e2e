"""The engines that share a store, as ``GET /v1/engine/cluster`` shows them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.cluster.membership import Membership
    from engine.store.redis.members import Member


def cluster_document(
    membership: Membership,
    pending: Mapping[str, Mapping[int, int]],
    oldest_at: Mapping[str, float],
    *,
    region_count: int,
    now: float,
) -> dict[str, Any]:
    """Return the document.

    Args:
        membership: who is there.
        pending: consumer → region → journal entries that are not settled.
        oldest_at: consumer → when its oldest entry was written.
        region_count: of the store.
        now: by the store's clock, as *oldest_at* is.
    """
    view = membership.view

    def engine(member: Member) -> dict[str, Any]:
        state = (
            "gone" if membership.is_gone(member) else "silent" if membership.is_silent(member) else "alive"
        )
        return {
            "consumer": member.consumer,
            "name": member.about.name,
            "host": member.about.host,
            "pid": member.about.pid,
            "listen": member.about.listen,
            "version": member.about.version,
            "started_at": member.about.started_at,
            "clock_ahead_s": round(member.about.clock_ahead_s, 3),
            "state": state,
            "leader": member.consumer == view.leader,
            "pending": sum(pending.get(member.consumer, {}).values()),
            "lag_s": round(max(0.0, now - oldest_at.get(member.consumer, now)), 3),
        }

    known = {member.consumer for member in view.members}
    of_nobody = sum(sum(counts.values()) for name, counts in pending.items() if name not in known)
    return {
        "mode": "cluster",
        "self": membership.consumer,
        "leader": view.leader or None,
        "fence": view.fence,
        "region_count": region_count,
        "engines": list(map(engine, view.members)),
        "pending": sum(sum(counts.values()) for counts in pending.values()),
        "pending_of_nobody": of_nobody,
    }
