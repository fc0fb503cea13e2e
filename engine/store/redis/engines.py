"""The engines of one Redis, as somebody sees them who is none of them: nothing is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.store.redis.members import LEFT, Member, about_of

if TYPE_CHECKING:
    from engine.store.redis.keys import Keys
    from engine.store.redis.link import Link


def engines_of(link: Link, keys: Keys) -> list[Member]:
    """Return every process of an engine that this Redis knows of; those that are gone have no sign of life.

    Raises:
        StoreError: Redis cannot be asked.
    """
    known = link.one("HGETALL", keys.cluster("engines"))
    texts = {consumer.decode(): text for consumer, text in zip(*[iter(known)] * 2, strict=True)}
    beats = link.all([("EXISTS", keys.cluster(f"beat:{consumer}")) for consumer in texts])
    return [
        Member(consumer, about_of(text), bool(lives), text == LEFT)
        for (consumer, text), lives in zip(texts.items(), beats, strict=True)
    ]
