"""The salt step of a deploy: the release's own states, applied to a batch before it is unpacked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from release.hosts.remote import Fleet
from release.states.apply import OPERATION, Order, requests
from release.states.files import read_artefact, read_pillar
from release.states.pillar import check

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from release.hosts.remote import Outcome
    from release.inventory import Host
    from release.settings import Settings


def salt_step(
    hosts: Sequence[Host], version: str, artefact: Path, settings: Settings, *, token: str
) -> Callable[[Sequence[str]], dict[str, Outcome]]:
    """Return a function that applies the states of *version* to some of *hosts*, by their names.

    Args:
        hosts: all hosts of the deploy.
        version: what is being brought.
        artefact: a build of that version on this machine; each has the same states.
        settings: root, pillar and program of Salt.
        token: of the deploy lock.

    Raises:
        ReleaseError: there is no pillar, or the artefact has no states.
    """
    files = {**read_artefact(artefact), **read_pillar(Path(settings.pillar))}
    order = Order(root=settings.root, release=version, workers=settings.workers, channel=settings.channel)
    check(files, order.pillar()["engine"])
    by_name = {host.name: host for host in hosts}

    def run(names: Sequence[str]) -> dict[str, Outcome]:
        chosen = [by_name[name] for name in names]
        with Fleet(chosen, settings, root=order.root) as fleet:
            return fleet.run(OPERATION, requests(chosen, order, files=files, settings=settings, token=token))

    return run
