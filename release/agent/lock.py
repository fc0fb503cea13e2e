"""The deploy lock: whose run may change this host.

Its owner is a controller: machine, boot, user and run. It is kept until its owner gives it back or somebody
takes it with a reason, which is noted in the history. A run shows signs of life, and a silent one is stale
after its time; a lock that a person set has no time, and outlives every reboot.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from .answers import Refused, tell
from .files import read_json, write_whole
from .history import note
from .requests import by

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from typing import Any

    from .layout import Host


#: What is kept of whoever takes the lock; ``machine`` and ``controller_boot`` are the controller's.
OWNER = ("token", "who", "where", "machine", "controller_boot", "why", "ttl_s", "deploy_id")


def now_here() -> tuple[str, float]:
    """Return which boot this is, and seconds since: a clock that nobody sets."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return boot, time.clock_gettime(time.CLOCK_BOOTTIME)


def held(host: Host) -> dict[str, Any] | None:
    """Return the deploy lock, with ``stale`` and ``age_s``; None when nobody has it."""
    holder = read_json(host.lock)
    if not isinstance(holder, dict):
        return None
    boot, now = now_here()
    age_s = now - float(holder.get("beat") or 0)
    if holder.get("boot") != boot or age_s < 0:  # a reboot is no sign of death: the controller may be alive
        age_s = now
    ttl_s = float(holder.get("ttl_s") or 0)
    holder["age_s"] = round(age_s, 1)
    holder["stale"] = 0 < ttl_s < age_s
    return holder


def describe(holder: dict[str, Any]) -> str:
    """Say whose a lock is."""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder.get("at") or 0))
    whose = f"locked by {holder.get('who')} on {holder.get('where')} since {since} ({holder.get('why')}); "
    if not holder.get("ttl_s"):
        return f"{whose}kept until it is released"
    return f"{whose}last sign of life {holder['age_s']:.0f} s ago, stale after {holder.get('ttl_s'):g} s"


def refuse_locked(host: Host) -> None:
    """Refuse to change a host that somebody holds, for whoever holds no lock."""
    holder = held(host)
    if holder is not None and not holder["stale"]:
        raise Refused("locked", describe(holder))


def need_lock(host: Host, token: str) -> None:
    """Refuse to go on for a run whose deploy lock is somebody else's now."""
    holder = held(host)
    if holder is None or holder.get("token") != token:
        raise Refused("lost", "the lock is not ours any more" + (f": {describe(holder)}" if holder else ""))


def lock(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Take the deploy lock, also a stale one; again with the same token is fine."""
    host.make()
    holder = held(host)
    if holder is not None and holder.get("token") != request["token"]:
        if not holder["stale"]:
            raise Refused("locked", describe(holder))
        why = f"a stale lock is taken over: {describe(holder)}"
        tell("stale", message=why)
        note(host, action="take-over", version="", ok=True, error=why, **by(request))
    boot, now = now_here()
    kept = {key: request.get(key) for key in OWNER}
    write_whole(host.lock, json.dumps({**kept, "at": time.time(), "boot": boot, "beat": now}).encode())
    return {}


def heartbeat(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Say that the holder lives."""
    need_lock(host, request["token"])
    holder = held(host) or {}
    del holder["age_s"], holder["stale"]
    holder["boot"], holder["beat"] = now_here()
    write_whole(host.lock, json.dumps(holder).encode())
    return {}


def unlock(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Give the lock back, or with ``force`` whosoever it is; ``why`` is noted, and ``force`` needs it."""
    holder, why = held(host), str(request.get("why") or "").strip()
    if request.get("force") and not why:
        raise Refused("input", "unlock: why is missing: somebody else's lock is taken with a reason")
    if holder is None:
        return {"unchanged": True}
    if not request.get("force") and holder.get("token") != request.get("token"):
        raise Refused("locked", describe(holder))
    host.lock.unlink()
    was = describe(holder)
    if why:
        note(host, action="unlock", version="", ok=True, error=f"{why}; was {was}", **by(request))
    return {"unchanged": False, "was": was}
