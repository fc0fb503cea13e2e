"""The deploy lock: whose run may change this host. Its holder shows signs of life; a silent one is stale."""

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
    age_s = now - float(holder.get("beat", 0))
    holder["age_s"] = round(age_s, 1)
    holder["stale"] = holder.get("boot") != boot or age_s > float(holder.get("ttl_s", 0)) or age_s < 0
    return holder


def describe(holder: dict[str, Any]) -> str:
    """Say whose a lock is."""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder.get("at") or 0))
    return (
        f"locked by {holder.get('who')} on {holder.get('where')} since {since} ({holder.get('why')}); "
        f"last sign of life {holder['age_s']:.0f} s ago, stale after {holder.get('ttl_s'):g} s"
    )


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
        tell("stale", message=f"a stale lock is taken over: {describe(holder)}")
    boot, now = now_here()
    kept = {key: request.get(key) for key in ("token", "who", "where", "why", "ttl_s", "deploy_id")}
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
    """Give the lock back, or with ``force`` whosoever it is."""
    holder = held(host)
    if holder is None:
        return {"unchanged": True}
    if not request.get("force") and holder.get("token") != request.get("token"):
        raise Refused("locked", describe(holder))
    host.lock.unlink()
    if request.get("force"):
        note(host, action="unlock", version="", ok=True, error=describe(holder), **by(request))
    return {"unchanged": False, "was": describe(holder)}
