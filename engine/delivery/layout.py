"""How a task is laid out when its turn comes: its shares, its second purges, its verification."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.delivery import expansion
from engine.delivery.rebound import Rebound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from engine.base.timer import Timer
    from engine.delivery.absent import Park as ParkAbsent
    from engine.delivery.absent import PlanNodes
    from engine.delivery.endings import Endings
    from engine.delivery.parking import Park
    from engine.tasks.task import NodeRef, Rebounds, Share, Task


class Layout:
    """Gives tasks their shares.

    Args:
        nodes: the configured nodes by name, complete before the first task.
        plan_nodes: finds the nodes of plans that a store kept; what it parks goes by *park_absent*.
        timer: fires second purges.
        endings: told when second purges or visits are over.
        release: queues what waits for targets of a share.
        park: makes rows of second purges; see `Parking.park`.
        park_absent: takes subtasks of nodes that are not there.

    Attributes:
        verify: makes the verification of a task, which calls what it is handed when it is over; None: no
            task is verified here.
    """

    def __init__(
        self,
        nodes: Mapping[str, NodeRef],
        plan_nodes: PlanNodes,
        timer: Timer,
        endings: Endings,
        *,
        release: Callable[[Share, Sequence[int]], None],
        park: Park,
        park_absent: ParkAbsent,
    ) -> None:
        self._nodes = nodes
        self._plan_nodes = plan_nodes
        self._timer = timer
        self._endings = endings
        self._release = release
        self._park = park
        self._park_absent = park_absent
        self.verify: Callable[[Task, Callable[[Task], None]], Rebounds] | None = None

    def lay_out(self, task: Task) -> dict[Share, list[int]]:
        """Give a task its shares, nothing of them queued; return what an engine before this one had acked."""
        task.live = task.total
        rebound: Rebound | None = None
        if task.rebound_s:
            over = self._endings.rebound_over
            task.rebound = rebound = Rebound(
                task, self._timer, release=self._release, on_over=over, park=self._park
            )
            task.live += 1  # it is not over before its rebound is
        visits: Rebounds | None = None
        if task.verify is not None and self.verify is not None:
            task.verify.run = visits = self.verify(task, self._endings.verification_over)
            task.live += 1
        plan = task.plan
        is_stored = plan is not None and plan.is_stored
        nodes = (
            self._plan_nodes.of(plan, self._park_absent) if plan is not None and is_stored else self._nodes
        )
        task.shares = expansion.shares_of(task, nodes, rebound, visits)
        return expansion.mark_acked(task, task.progress) if task.progress is not None else {}
