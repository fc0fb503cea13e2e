"""The task ``version``: of this tree, of the repository's channels, of the hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from release.build import version
from release.errors import ReleaseError
from release.hosts.target import apply, open_fleet
from release.repository.repository import open_repository
from release.rollout import exits, gates
from release.settings import source_of

if TYPE_CHECKING:
    from release.hosts.target import Wanted
    from release.rollout.display import Display
    from release.settings import Settings


def versions(wanted: Wanted, settings: Settings, display: Display) -> int:
    """Show which version is where; what cannot be asked says why. Return the exit code."""
    rows = [("this tree", *_tree(settings))]
    rows += [(f"channel {name}", found, why) for name, found, why in _channels(wanted, settings)]
    code = exits.DONE
    try:
        settings = apply(wanted, settings)
        with open_fleet(wanted, settings, display.event) as fleet:
            states, failed = gates.ask(fleet)
        code = exits.GATE if failed else exits.DONE
        reasons = {outcome.host: outcome.reason for outcome in failed}
        for name in fleet.names:
            state = states.get(name)
            rows.append((name, state.running if state else "", reasons.get(name, "")))
    except ReleaseError as exc:
        if wanted.hosts or wanted.inventory:
            raise
        rows.append(("hosts", "", str(exc)))
    if display.is_json:
        display.result([{"where": where, "version": found, "reason": why} for where, found, why in rows])
    else:
        display.table("where", "version", "", rows=[(where, found or "-", why) for where, found, why in rows])
    return code


def _tree(settings: Settings) -> tuple[str, str]:
    try:
        return version.determine(source_of(settings), allow_dirty=True).version, ""
    except ReleaseError as exc:
        return "", str(exc)


def _channels(wanted: Wanted, settings: Settings) -> list[tuple[str, str, str]]:
    try:
        with open_repository(wanted.repository, settings) as opened:
            channels = opened.index().channels
    except ReleaseError as exc:
        return [(settings.channel, "", str(exc))]
    return [(name, found, "") for name, found in sorted(channels.items())]
