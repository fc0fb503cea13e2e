"""The assembly of what an engine above this one is answered by."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.tree.reports import Reports
from engine.tree.routes import TreeRoutes

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.api.bodies import Bodies
    from engine.api.callers import Callers
    from engine.api.find import FindTask
    from engine.delivery.watchers import Watchers
    from engine.intake.admission import Admission
    from engine.tree.place import Place


class Above(NamedTuple):
    """What the routes of the tree stand on."""

    place: Place
    watchers: Watchers
    delayed: Callable[[], int]  #: how many rows the delay queues have

    def routes(self, find: FindTask, callers: Callers, bodies: Bodies, admission: Admission) -> TreeRoutes:
        """Return the routes."""
        reports = Reports(find, self.watchers)
        return TreeRoutes(callers, bodies, admission, place=self.place, reports=reports, delayed=self.delayed)
