"""The task ``salt``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.exceptions import Exit
from invoke.tasks import task

if TYPE_CHECKING:
    from invoke.context import Context


@task(
    positional=[],
    iterable=["host"],
    help={
        "host": "host or group of the inventory, may be repeated; default all; 'local': this machine",
        "diff": "change nothing, show what would be changed",
        "master": "call the Salt master on this machine instead of salt-call on each host",
        "pillar": "file, or folder with a top.sls; salt/pillar.example shows what it holds",
        "states": "one SLS instead of all, such as engine.clean",
        "settings": "file of the settings; default: release.toml here, or beside the project",
        "release": "apply the states of this published version instead of those here",
        "inventory": "file of the hosts",
        "root": "folder of the engine on the hosts",
        "json": "print one JSON document",
    },
)
def salt(
    c: Context,
    host: list[str] | None = None,
    diff: bool = False,
    master: bool = False,
    pillar: str = "",
    states: str = "",
    settings: str = "",
    release: str = "",
    inventory: str = "",
    root: str = "",
    json: bool = False,
) -> None:
    """Bring hosts into the state that the engine needs: account, folders, configuration, units, limits."""
    from release.agent.redact import redact
    from release.errors import ReleaseError
    from release.show import steady
    from release.states.program import SaltOptions, run

    steady.install()
    options = SaltOptions(
        hosts=[name for entry in host or [] for name in entry.split(",") if name],
        is_test=diff,
        is_master=master,
        pillar=pillar,
        states=states,
        settings=settings,
        release=release,
        inventory=inventory,
        root=root,
        is_json=json,
    )
    try:
        code = run(options, sys.stdout, folder=Path.cwd())
    except ReleaseError as exc:
        raise Exit(redact(f"salt: {exc}"), code=1) from exc
    if code:
        raise Exit(code=code)  # it has said why
