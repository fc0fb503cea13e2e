"""The operation ``previous``: which version a rollback goes to."""

from __future__ import annotations

from .answers import Refused
from .environment import has_lost_python
from .history import served_here
from .index import yanked

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from typing import Any

    from .layout import Host


def previous(host: Host, _request: dict[str, Any]) -> dict[str, Any]:
    """Return the version that a rollback goes to: the last good one before the current that is still here.

    One that was yanked is passed over, as far as this host has seen that.
    """
    current, order = host.linked("current"), served_here(host)
    before = order[: order.index(current)] if current in order else order
    reasons = yanked(host)
    passed: list[str] = []
    for version in reversed(before):
        if has_lost_python(host.release(version)):
            continue
        if version not in reasons:
            return {"version": version, "current": current, "passed": passed}
        passed.append(f"{version} was yanked: {reasons[version]}")
    if passed:
        raise Refused("yanked", f"{'; '.join(passed)}; name one with --to to go there all the same")
    raise Refused("missing", f"there is no good release before {current or 'the current one'} on this host")
