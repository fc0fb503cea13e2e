"""Whether this Redis can lose what it said it has, seen at the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.store.redis.link import Link


def dangers(link: Link, *, wait_replicas: int) -> list[str]:
    """Return what an operator should know, a sentence or two each.

    Raises:
        StoreError: Redis cannot be asked.
    """
    warnings: dict[str, None] = {}
    for reply in link.on_each_master("INFO", "everything"):
        facts = dict(line.split(":", 1) for line in reply.decode().splitlines() if ":" in line)
        if facts.get("aof_enabled") == "0":
            warnings[
                "Redis keeps no append-only file (appendonly no): when it ends, every task since its last "
                "snapshot is lost, also those answered 202. Set appendonly yes"
            ] = None
        policy = facts.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            warnings[
                f"Redis may evict keys (maxmemory-policy {policy}): with its memory full it drops tasks and "
                "delay queues, silently. Set maxmemory-policy noeviction; tasks are then answered 503"
            ] = None
    if link.url.kind != "single" and not wait_replicas:
        warnings[
            "store.wait_replicas is 0: a task is answered 202 when the master has it, and a failover loses "
            "what its replica had not got yet, most often less than a second's. Set store.wait_replicas = 1"
        ] = None
    return list(warnings)
