"""What to do next, said after a deploy: an engine that was just made has no caches yet."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from release.calling import call
from release.rollout.health import WATCH_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from release.hosts.remote import Fleet
    from release.hosts.target import Wanted
    from release.rollout.display import Display
    from release.rollout.plan import HostState


def after_deploy(
    wanted: Wanted, fleet: Fleet, states: Mapping[str, HostState], pillar: str, display: Display
) -> None:
    """Say where a first deploy's configuration is and what it lacks; on this machine also how to go on.

    Args:
        wanted: options of the task.
        fleet: the hosts, which serve.
        states: of the hosts before the deploy.
        pillar: file that the hosts' configuration is made from, where Salt does that.
        display: shows it.
    """
    first = [name for name, state in states.items() if not state.current and not state.running]
    empty = _without_nodes(fleet, first) if first else {}
    config = f"{fleet.root}/shared/engine.toml"
    if empty:
        display.say(f"{', '.join(empty)}: the engine's configuration is {config}; it has no nodes yet. Next:")
        lines = _add_nodes(wanted, fleet.root, config, "" if wanted.is_local else pillar, list(empty))
    elif wanted.is_local:
        lines = [
            (what, f"{call(task)} --host local --root {shlex.quote(fleet.root)}")
            for what, task in (("look at it", "status"), ("go back", "rollback"), ("end it", "stop"))
        ]
    else:
        lines = []
    for what, command in lines:
        display.say(f"{what + ':':<14}{command}")


def _add_nodes(
    wanted: Wanted, root: str, config: str, pillar: str, hosts: Sequence[str]
) -> list[tuple[str, str]]:
    """Return the three commands that bring nodes to *hosts*, each with what it is for."""
    which = f"--host {','.join(hosts)}" + (f" --root {shlex.quote(root)}" if wanted.is_local else "")
    check = f"{shlex.quote(f'{root}/current/venv/bin/purgeline')} check-nodes --config {shlex.quote(config)}"
    reload = ("take them", call(f"reload {which}"))
    if pillar and wanted.with_salt:
        edit = ("add nodes", f"$EDITOR {shlex.quote(pillar)}")
        return [edit, ("bring them", call(f"salt {which}")), reload]
    where = "" if wanted.is_local else "  # on each host"
    edit = ("add nodes", f"$EDITOR {shlex.quote(config)}{where}")
    return [edit, ("check them", f"{check}{where}"), reload]


def _without_nodes(fleet: Fleet, names: Iterable[str]) -> dict[str, None]:
    """Return those hosts whose configuration has no nodes."""
    outcomes = fleet.run("status", hosts=names, timeout_s=WATCH_TIMEOUT_S)
    return dict.fromkeys(name for name, found in outcomes.items() if found.answer.get("node_count") == 0)
