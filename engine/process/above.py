"""The assembly of what an engine above this one is answered by, and what asks those below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from engine.tree.own_leaves import OwnLeaves
from engine.tree.reports import Reports
from engine.tree.routes import TreeRoutes
from engine.tree.sealing import Sealing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from engine.api.below import Below
    from engine.api.bodies import Bodies
    from engine.api.callers import Callers
    from engine.api.cancel_handed import CancelHanded
    from engine.api.find import FindTask
    from engine.delivery.watchers import Watchers
    from engine.intake.admission import Admission
    from engine.process.tree import Tree


class Above(NamedTuple):
    """What the routes of the tree stand on."""

    tree: Tree
    watchers: Watchers
    delayed: Callable[[], Awaitable[int]]  #: how many rows the delay queues have, of all workers
    nodes: Callable[[], Awaitable[Sequence[Mapping[str, Any]]]]  #: the documents of the nodes

    @property
    def seals(self) -> Sealing:
        """What signs the answers of all routes."""
        return Sealing(self.tree.place)

    @property
    def below(self) -> Below:
        """What asks the nodes that are engines."""
        return self.tree.below

    def routes(
        self, find: FindTask, cancels: CancelHanded, callers: Callers, bodies: Bodies, admission: Admission
    ) -> TreeRoutes:
        """Return the routes."""
        return TreeRoutes(
            callers,
            bodies,
            admission,
            place=self.tree.place,
            cancels=cancels,
            reports=Reports(find, self.watchers),
            delayed=self.delayed,
            leaves=OwnLeaves(self.nodes, self.tree.censuses),
        )
