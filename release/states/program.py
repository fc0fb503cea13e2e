"""The task ``salt``, from its arguments to its exit code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TextIO

import msgspec
from rich.console import Console

from release.agent.redact import redact
from release.hosts.remote import Fleet
from release.inventory import hosts_of
from release.settings import load_settings
from release.states import files, master, view
from release.states.apply import Order, apply
from release.states.pillar import check
from release.states.results import HostStates


class SaltOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of the task; an empty text means what the settings say."""

    hosts: list[str] = []  #: names or groups; none: all
    is_test: bool = False
    is_master: bool = False
    pillar: str = ""
    states: str = ""
    settings: str = ""  #: file of the settings
    release: str = ""
    inventory: str = ""
    root: str = ""
    is_json: bool = False


def run(options: SaltOptions, out: TextIO = sys.stdout, *, folder: Path) -> int:
    """Apply states and print what they did on each host; return 0 when every host is as it should be, else 1.

    Args:
        options: of the task.
        out: for the result.
        folder: what relative paths of the arguments mean.

    Raises:
        ReleaseError: nothing was done, because something that was named cannot be used.
    """
    settings = load_settings(options.settings, folder=folder)
    hosts = hosts_of(settings, options.hosts, inventory=options.inventory, folder=folder)
    order = Order(
        root=options.root or settings.root,
        states=options.states,
        is_test=options.is_test,
        workers=settings.workers,
        release=options.release,
        channel=settings.channel,
    )
    version = options.release
    tree = files.read_release(version, settings) if version else files.read_tree(files.tree_of(settings))
    check(tree, order.pillar()["engine"])
    if options.is_master:
        results = master.apply(hosts, order, settings=settings)
    else:
        pillar = folder / Path(options.pillar or settings.pillar).expanduser()
        shipped = {**tree, **files.read_pillar(pillar)}
        with Fleet(hosts, settings, root=order.root) as fleet:
            results = apply(fleet, hosts, order, files=shipped, settings=settings)
    results = [msgspec.convert(redact(msgspec.to_builtins(result)), HostStates) for result in results]
    is_ok = all(result.ok for result in results)
    if options.is_json:
        document = {"ok": is_ok, "test": options.is_test, "hosts": results}
        out.write(msgspec.json.encode(document).decode() + "\n")
    else:
        view.show(results, Console(file=out), is_test=options.is_test)
    return 0 if is_ok else 1
