"""Tasks that name targets and nothing else, as most do: what else they are is configured. Pure.

A body says nothing else when it has no more quotation marks than the key and the targets have: each key has
two of its own. So the other two dozen fields need not be looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.intake.targets import urls_in_stored_form
from engine.tasks.plan import subtask_count
from engine.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.intake.topology import Topology
    from engine.intake.verify_asked import Verifying
    from engine.tasks.plan import Plan

_BYTES_MAX: Final = 512  #: of a body whose marks are counted: that is for small tasks, whose fields weigh


def names_targets_alone(body: bytes, count: int) -> bool:
    """Tell whether a small body that was decoded has no other field than so many targets."""
    return len(body) <= _BYTES_MAX and count > 0 and body.count(b'"') == 2 * count + 2


class PlainTasks:
    """Makes such tasks.

    Args:
        topology: the configured nodes.
        due_s: seconds until they are due.
        skips_incapable: whether nodes that cannot purge a URL are left out.
        rebound_s: seconds until their purges are sent once more; 0: they are not.
        verifying: whether they are verified.
    """

    def __init__(
        self,
        topology: Topology,
        *,
        due_s: float,
        skips_incapable: bool,
        rebound_s: float,
        verifying: Verifying,
    ) -> None:
        self._topology = topology
        self._skips_incapable = skips_incapable
        self._due_s = due_s
        self._rebound_s = rebound_s
        self._verifying = verifying
        self._plan: Plan | None = None  # of all of them

    def task(
        self,
        asked: Sequence[object],
        body: bytes,
        allows_host: Callable[[str], bool],
        *,
        task_id: str,
        created_at: float,
    ) -> Task | None:
        """Return the task of these targets; None: one of them is not in stored form, or not allowed.

        Raises:
            RequestError: 422, no node can do it.
        """
        found = urls_in_stored_form(asked, allows_host)
        if found is None:
            return None
        plan = self._plan
        if plan is None:
            plan = self._plan = self._topology.plan(skip=self._skips_incapable)
        targets = found[0]
        task = Task(
            id=task_id,
            action="purge",
            kind="url",
            targets=targets,
            soft=False,
            prefetch=False,
            callback=None,
            due_s=self._due_s,
            body=body,
            digest=b"",
            created_at=created_at,
        )
        task.plan = plan
        task.site = found[1]
        task.verify = self._verifying.unasked()
        task.rebound_s = self._rebound_s
        task.total = subtask_count(plan, len(targets), "purge", prefetch=False)
        return task
