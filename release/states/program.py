"""The task ``salt``, from its arguments to its exit code."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

import msgspec
from rich.console import Console

from release.hosts.remote import Fleet
from release.inventory import LOCAL, load_inventory, select_hosts
from release.settings import ROOT, load_settings
from release.states import files, master, view
from release.states.apply import Order, apply

if TYPE_CHECKING:
    from pathlib import Path

    from release.inventory import Host
    from release.settings import Settings


class SaltOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of the task; an empty text means what the settings say."""

    hosts: list[str] = []  #: names or groups; none: all
    is_test: bool = False
    is_master: bool = False
    pillar: str = ""
    states: str = ""
    release: str = ""
    inventory: str = ""
    root: str = ""
    is_json: bool = False


def run(options: SaltOptions, out: TextIO = sys.stdout, *, folder: Path, project: Path = ROOT) -> int:
    """Apply states and print what they did on each host; return 0 when every host is as it should be, else 1.

    Args:
        options: of the task.
        out: for the result.
        folder: what relative paths of the arguments mean; those of the settings mean *project*.
        project: has pyproject.toml and the state tree.

    Raises:
        ReleaseError: nothing was done, because something that was named cannot be used.
    """
    settings = load_settings(project / "pyproject.toml")
    hosts = _hosts(options, settings, folder, project)
    order = Order(
        root=options.root or settings.root,
        states=options.states,
        is_test=options.is_test,
        workers=settings.workers,
        release=options.release,
        channel=settings.channel,
    )
    if options.is_master:
        results = master.apply(hosts, order, settings=settings)
    else:
        version = options.release
        tree = files.read_release(version, settings) if version else files.read_tree(project)
        pillar = folder / options.pillar if options.pillar else project / settings.pillar
        shipped = {**tree, **files.read_pillar(pillar.expanduser())}
        with Fleet(hosts, settings, root=order.root) as fleet:
            results = apply(fleet, hosts, order, files=shipped, settings=settings)
    is_ok = all(result.ok for result in results)
    if options.is_json:
        document = {"ok": is_ok, "test": options.is_test, "hosts": results}
        out.write(msgspec.json.encode(document).decode() + "\n")
    else:
        view.show(results, Console(file=out), is_test=options.is_test)
    return 0 if is_ok else 1


def _hosts(options: SaltOptions, settings: Settings, folder: Path, project: Path) -> list[Host]:
    if LOCAL in options.hosts:
        return select_hosts([], options.hosts)
    path = folder / options.inventory if options.inventory else project / settings.inventory
    return select_hosts(load_inventory(path.expanduser()), options.hosts)
