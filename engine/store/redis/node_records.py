"""Commands that write what an engine keeps beside tasks: nodes seen or paused, silences, tasks that began."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from engine.store.redis.keys import PLAN_MS
from engine.store.redis.scripts import SEE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.store.redis.keys import Keys
    from engine.store.redis.script import Command
    from engine.tasks.records import Begun, Pause, Sighting, Silence


def seen(keys: Keys, sightings: Sequence[Sighting]) -> Command:
    """Return what notes when nodes were configured last; by the server's clock, as no engine's decides."""
    flat = [
        word
        for one in sightings
        for word in ("f" if one.is_forgotten else "g" if one.is_gone else "c", one.node, one.layer)
    ]
    return SEE.call([keys.cluster("seen")], flat)


def paused(keys: Keys, pauses: Sequence[Pause]) -> Command:
    """Return what notes that nodes are paused, or resumed."""
    flat = [word for pause in pauses for word in (pause.node, msgspec.json.encode(pause))]
    return ("HSET", keys.cluster("paused"), *flat)


def silenced(keys: Keys, silence: Silence) -> Command:
    """Return what notes which alerts are silenced, or forgets that."""
    key = keys.cluster("silences")
    if not silence.matchers:
        return ("HDEL", key, silence.id)
    return ("HSET", key, silence.id, msgspec.json.encode(silence))


def begun(keys: Keys, record: Begun) -> list[Command]:
    """Return what notes that a task which was accepted for later has begun, with its plan, or is over."""
    region = keys.region(record.task_id)
    key = keys.begun(region, record.task_id)
    if not record.text:
        return [("DEL", key)]
    mark = msgspec.msgpack.encode((record.accepted_at, record.plan))
    return [
        ("SET", keys.plan(region, record.plan), record.text, "PX", PLAN_MS),
        ("SET", key, mark, "PX", PLAN_MS),
    ]
