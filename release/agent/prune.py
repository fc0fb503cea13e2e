"""The operation ``prune``: the last good releases stay, older and half-made ones go."""

from __future__ import annotations

from .answers import Refused, tell
from .history import entries_of, note, served
from .requests import by
from .use import in_use, remove_release

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from typing import Any

    from .layout import Host


def prune(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Remove all but the last good releases; never one in use. Half-made ones go, too."""
    keep = request["keep"]
    if keep < 1:
        raise Refused("input", f"keep: takes a number from 1, not {keep!r}")
    unpacked, good = host.unpacked(), host.good()
    kept = {version: why for version, why in in_use(host).items() if version in unpacked}
    order = [version for version in reversed(served(entries_of(host))) if version in good]
    unserved = [version for version in good if version not in order]
    order += sorted(unserved, key=lambda version: (host.verified(version) or {}).get("at", 0), reverse=True)
    for version in order:
        if len(set(kept) & set(good)) >= keep:
            break
        kept.setdefault(version, "one of the last good ones")
    removed = {
        version: f"older than the last {keep}" if version in good else "half-made"
        for version in unpacked
        if version not in kept
    }
    if not request.get("dry_run"):
        for version, why in removed.items():
            remove_release(host.releases / version)
            tell("removed", version=version, why=why)
        if removed:
            note(host, action="prune", version=",".join(removed), ok=True, **by(request))
    return {"removed": list(removed), "kept": kept, "why": removed}
