"""The salt step of a deploy: the release's own states, applied to a batch before it is unpacked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from release.settings import ROOT
from release.states import statefiles, states

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from release.hosts.remote import Outcome
    from release.inventory import Host
    from release.rollout.steps import Cargo
    from release.settings import Settings


def step(
    hosts: Sequence[Host], version: str, cargo: Cargo, settings: Settings
) -> Callable[[Sequence[str]], dict[str, Outcome]]:
    """Return what applies the states of *version*, out of its artefact, to some of *hosts*.

    Raises:
        ReleaseError: there is no pillar, or the artefact has no states.
    """
    tree = statefiles.read_artefact(next(iter(cargo.files.values())))
    pillar = statefiles.read_pillar(ROOT / settings.pillar)
    order = states.Order(
        root=settings.root, release=version, workers=settings.workers, channel=settings.channel
    )
    return states.step(hosts, order, files={**tree, **pillar}, settings=settings)
