"""The operation ``prune``: the last good releases stay, older and half-made ones go."""

from __future__ import annotations

from .answers import Refused, tell
from .cache import OWN, tidy
from .history import WAYS_BACK, entries_of, note, served_here
from .requests import by
from .use import in_use, remove_release

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from typing import Any

    from .layout import Host


def prune(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Remove all but the last good releases; never one in use. Half-made ones go, too.

    One that is ``automatic`` leaves releases that were unpacked ahead: none has asked for their end.
    """
    keep = request["keep"]
    if keep < 1:
        raise Refused("input", f"keep: takes a number from 1, not {keep!r}")
    unpacked, good = host.unpacked(), host.good()
    kept = {version: why for version, why in in_use(host).items() if version in unpacked}
    order = list(reversed(served_here(host)))
    unserved = [version for version in good if version not in order]
    order += sorted(unserved, key=lambda version: (host.verified(version) or {}).get("at", 0), reverse=True)
    waiting = ahead(host, unserved) if request.get("automatic") else []
    for version in order:
        if len(set(kept) & set(good)) >= keep:
            break
        if version not in waiting:
            kept.setdefault(version, "one of the last good ones")
    for version in waiting:
        kept.setdefault(version, "it was unpacked ahead")
    removed = {
        version: f"older than the last {keep}" if version in good else "half-made"
        for version in unpacked
        if version not in kept
    }
    if not request.get("dry_run"):
        for version, why in removed.items():
            remove_release(host.releases / version)
            tell("removed", version=version, why=why)
        tidy(host.root / "cache")
        if OWN.name.startswith("agent-"):  # it may have been brought to another place
            tidy(OWN.parent)
        if removed:
            note(host, action="prune", version=",".join(removed), ok=True, **by(request))
    return {"removed": list(removed), "kept": kept, "why": removed}


def ahead(host: Host, unserved: list[str]) -> list[str]:
    """Return which of the releases that do not serve, and are no way back, no reload has tried since."""
    tried: dict[str, float] = {}
    for entry in entries_of(host):
        if entry.get("action") in {"reload", *WAYS_BACK}:
            tried[str(entry.get("version"))] = float(entry.get("at") or 0)
    return [
        version for version in unserved if (host.verified(version) or {}).get("at", 0) > tried.get(version, 0)
    ]
