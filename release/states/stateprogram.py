"""The task ``salt``, from its arguments to its exit code."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

import msgspec
from rich.console import Console

from release import inventory, settings
from release.hosts.remote import Fleet
from release.states import statefiles, states, stateview

if TYPE_CHECKING:
    from pathlib import Path

    from release.inventory import Host


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments; an empty text means what the settings say."""

    hosts: list[str] = []  #: names or groups; none: all
    is_test: bool = False
    is_master: bool = False
    pillar: str = ""
    states: str = ""
    release: str = ""
    inventory: str = ""
    root: str = ""
    is_json: bool = False


def run(wanted: Wanted, out: TextIO = sys.stdout, *, folder: Path, project: Path = settings.ROOT) -> int:
    """Apply states and print what came of it; return 0 when every host is as it should be, else 1.

    Args:
        wanted: the arguments.
        out: for the result.
        folder: what relative paths of the arguments mean; those of the settings mean *project*.
        project: has pyproject.toml and the state tree.

    Raises:
        ReleaseError: nothing was done, because something that was named cannot be used.
    """
    config = settings.load(project / "pyproject.toml")
    hosts = _hosts(wanted, config, folder, project)
    order = states.Order(
        root=wanted.root or config.root,
        states=wanted.states,
        is_test=wanted.is_test,
        workers=config.workers,
        release=wanted.release,
        channel=config.channel,
    )
    if wanted.is_master:
        results = states.apply_by_master(hosts, order, settings=config)
    else:
        pillar = folder / wanted.pillar if wanted.pillar else project / config.pillar
        version = wanted.release
        tree = statefiles.read_release(version, config) if version else statefiles.read_tree(project)
        files = {**tree, **statefiles.read_pillar(pillar.expanduser())}
        with Fleet(hosts, config, root=order.root) as fleet:
            results = states.apply(fleet, hosts, order, files=files, settings=config)
    is_ok = all(result.ok for result in results)
    if wanted.is_json:
        out.write(
            msgspec.json.encode({"ok": is_ok, "test": wanted.is_test, "hosts": results}).decode() + "\n"
        )
    else:
        stateview.show(results, Console(file=out), is_test=wanted.is_test)
    return 0 if is_ok else 1


def _hosts(wanted: Wanted, config: settings.Settings, folder: Path, project: Path) -> list[Host]:
    if inventory.LOCAL in wanted.hosts:
        return inventory.select([], wanted.hosts)
    path = folder / wanted.inventory if wanted.inventory else project / config.inventory
    return inventory.select(inventory.load(path.expanduser()), wanted.hosts)
