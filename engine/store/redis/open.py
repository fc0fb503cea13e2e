"""From ``[store]`` to a `RedisStore`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.config.redis_url import parse_redis_url
from engine.store.redis.keys import Keys
from engine.store.redis.link import Link
from engine.store.redis.records import bare_document, bare_task
from engine.store.redis.store import RedisStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.store.history import HistoryLimits
    from engine.store.redis.replicas import WaitReplicas
    from engine.tasks.records import Accepted
    from engine.tasks.task import Task


def redis_store(
    url: str,
    consumer: str,
    *,
    region_count: int,
    prefix: str = "purgeline",
    timeout_s: float = 5.0,
    connections_max: int = 16,
    wait_replicas: WaitReplicas = 0,
    retention_s: float = 3 * 86400,
    history: HistoryLimits | None = None,
    describe: Callable[[Accepted, bytes], bytes] = bare_document,
    task_of: Callable[[Accepted, bytes], Task] = bare_task,
) -> RedisStore:
    """Return the store at *url*, not open yet; see `RedisStore`.

    Raises:
        ValueError: the URL is none for Redis.
    """
    link = Link(
        parse_redis_url(url),
        timeout_s=timeout_s,
        connections_max=connections_max,
        wait_replicas=wait_replicas,
    )
    return RedisStore(
        link,
        Keys(prefix, region_count),
        consumer,
        retention_s=retention_s,
        history=history,
        describe=describe,
        task_of=task_of,
    )
