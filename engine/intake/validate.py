"""From a request body to a `Task`, or a `RequestError`. Pure: no I/O, no state, no clock but its own.

The order is shape (JSON and types), then names (layers, nodes), then every target. The first thing
wrong is the answer; nothing has been stored by then.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from engine.errors import RequestError
from engine.intake.confirming import Confirming
from engine.intake.draft import Draft, whole
from engine.intake.plain_tasks import PlainTasks, names_targets_alone
from engine.intake.targets import Normaliser, have_host_pattern, in_stored_form
from engine.intake.task_body import bad_id, check_fields, decode, digest_of, journal_body
from engine.intake.verify_asked import Verifying
from engine.tasks.handed_ids import HANDED
from engine.tasks.plan import subtask_count
from engine.tasks.retrying import is_of_retry
from engine.tasks.task import Task
from engine.tasks.verify import read_verify
from engine.tasks.words import Action, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.intake.naming import Names
    from engine.intake.task_body import TaskBody
    from engine.intake.topology import Topology
    from engine.tasks.plan import Plan
    from engine.tasks.records import Accepted
    from engine.tasks.verify import Verify


def all_hosts(host: str) -> bool:  # noqa: ARG001 - the rule that takes every host
    """Allow every host: for a task whose hosts were checked when it was accepted."""
    return True


class Validator:
    """Checks bodies against one configuration.

    Args:
        topology: the configured nodes.
        due_s: seconds until a task without ``due_s`` is due.
        allows_callback: returns why a callback URL is refused, or None.
        skips_incapable: whether a task without ``on_incapable`` leaves out the nodes that cannot do it.
        rebound_s: of a task without its own: seconds until its purges are sent once more; 0: they are not.
        verifying: whether tasks that do not say are verified; None: they are not.
        is_ours: tells whether an id belongs to this worker; None: all do. New ids always do.
        confirming: knows which tasks a client has to confirm; None: none.

    Attributes:
        confirming: as given.
    """

    def __init__(
        self,
        topology: Topology,
        *,
        due_s: float,
        allows_callback: Callable[[str], str | None],
        skips_incapable: bool = False,
        rebound_s: float = 0,
        verifying: Verifying | None = None,
        is_ours: Callable[[str], bool] | None = None,
        confirming: Confirming | None = None,
    ) -> None:
        self._topology = topology
        self._due_s = due_s
        self._skips_incapable = skips_incapable
        self._rebound_s = rebound_s
        self._verifying = verifying or Verifying()
        self._plain = PlainTasks(
            topology,
            due_s=due_s,
            skips_incapable=skips_incapable,
            rebound_s=rebound_s,
            verifying=self._verifying,
        )
        self._allows_callback = allows_callback
        self._is_ours = is_ours
        self.confirming = confirming or Confirming(())
        self._salt = os.urandom(5).hex()
        self._counter = itertools.count(int.from_bytes(os.urandom(2), "big"))

    def note_names(self, names: Names) -> None:
        """Take what knows the names below nodes that are engines, which tasks may choose."""
        self._topology.names = names

    def task(self, body: bytes, allows_host: Callable[[str], bool]) -> Task:
        """Return the task that *body* asks for.

        Args:
            body: UTF-8 JSON.
            allows_host: whether the client may purge a host.

        Raises:
            RequestError: 400 not JSON, 422 anything wrong in it; the text names the field.
        """
        return whole(self.begin(body, allows_host))

    def begin(
        self,
        body: bytes,
        allows_host: Callable[[str], bool],
        *,
        is_confirmed: bool = False,
        is_again: bool = False,
    ) -> Task | Draft:
        """Return the task that *body* asks for; or what becomes it, when its targets take a while.

        Args:
            body: UTF-8 JSON.
            allows_host: whether the client may purge a host.
            is_confirmed: the task need not be confirmed, because it is not going to be done.
            is_again: the engine itself hands it in, to send something once more.

        Raises:
            RequestError: see `task`, for all but targets.
        """
        asked = decode(body)
        created_at = time.time()
        targets = asked.targets
        if names_targets_alone(body, len(targets)):
            task_id = self._new_id(created_at)
            task = self._plain.task(targets, body, allows_host, task_id=task_id, created_at=created_at)
            if task is not None:
                self._check_confirmed(task, is_confirmed)
                return task
        if asked.id is not None and not is_again and is_of_retry(asked.id):
            detail = (
                f"id: {asked.id!r} ends as the engine's own ids of retries do; takes one without .retry-N at "
                "its end"
            )
            raise RequestError(422, detail, field="id")
        if asked.id is not None and not is_again and HANDED in asked.id:
            raise bad_id()
        if asked.callback is not None and (reason := self._allows_callback(asked.callback)):
            raise RequestError(422, f"callback: {reason}", field="callback")
        return self._make(
            asked,
            body,
            allows_host,
            task_id=asked.id or self._new_id(created_at),
            created_at=created_at,
            is_confirmed=is_confirmed or asked.confirm is True,
            is_handed=is_again,
        )

    def replay(self, record: Accepted, plan: bytes = b"") -> Task:
        """Return a task that the journal holds; it was checked when it was accepted.

        Args:
            record: as it was accepted.
            plan: text of the plan that it was accepted for: it is worked by that, whatever is configured
                now. Empty: it is planned again.

        Raises:
            RequestError: it has no plan, and the configuration does not allow it any more.
            StoreError: the plan cannot be read.
        """
        asked = decode(record.body)
        if record.rebound_s >= 0:
            asked.rebound_s = record.rebound_s
        stored = None
        if plan:
            stored = self._topology.stored(record.plan, plan, host_pattern=have_host_pattern(asked))
        task = whole(
            self._make(
                asked,
                record.body,
                all_hosts,
                task_id=record.id,
                created_at=record.created_at,
                plan=stored,
                is_replayed=True,
                is_confirmed=True,
            )
        )
        task.due_s = record.due_s
        if record.start_at:
            task.start_at, task.is_scheduled = abs(record.start_at), record.start_at > 0
        task.due_at = (task.start_at or record.created_at) + record.due_s
        task.digest, task.token, task.by = record.digest, record.token, record.by
        task.verify = read_verify(record.verify)
        task.retries, task.rewind, task.traceparent = record.retries, record.rewind, record.traceparent
        return task

    def plan_again(self, task: Task) -> None:
        """Plan a task by what is configured now: it was accepted for later, and begins.

        One that is not allowed any more keeps the plan that it was accepted for: what waits for a node that
        has gone waits as ever.
        """
        with contextlib.suppress(RequestError):
            plan = self._plan(decode(task.body))
            task.plan = plan
            task.total = subtask_count(plan, len(task.targets), task.action, prefetch=task.prefetch)

    def lacks(self, node: str, kind: str, host_pattern: bool) -> str:
        """Return why a configured node cannot purge by *kind*, or that with a host pattern; empty: it can."""
        try:
            plan = self._topology.plan(nodes=(node,), kind=kind, host_pattern=host_pattern)
        except RequestError:
            of = f"{kind} of a host pattern" if host_pattern else kind
            return f"{node}, as configured, cannot purge by {of}"
        return "" if plan.steps else f"{node} is not configured"

    def _plan(self, asked: TaskBody, *, is_handed: bool = False) -> Plan:
        on_incapable = asked.on_incapable
        return self._topology.plan(
            asked.layers,
            asked.nodes,
            () if isinstance(asked.groups, msgspec.UnsetType) else asked.groups,
            is_handed=is_handed,
            action=asked.action,
            kind=asked.kind,
            soft=asked.soft,
            host_pattern=have_host_pattern(asked),
            skip=self._skips_incapable if on_incapable is msgspec.UNSET else on_incapable == "skip",
        )

    def _new_id(self, now: float) -> str:
        """Ids sort by time; the salt keeps two processes apart."""
        begin = int(now * 1000).to_bytes(6, "big").hex()[1:] + self._salt  # formatting: five times as dear
        while True:
            made = begin + (next(self._counter) & 0xFFFFFF).to_bytes(3, "big").hex()
            if self._is_ours is None or self._is_ours(made):
                return made

    def _make(
        self,
        asked: TaskBody,
        body: bytes,
        allows_host: Callable[[str], bool],
        *,
        task_id: str,
        created_at: float,
        is_confirmed: bool,
        is_replayed: bool = False,
        is_handed: bool = False,
        plan: Plan | None = None,
    ) -> Task | Draft:
        check_fields(asked)
        if plan is None:
            plan = self._plan(asked, is_handed=is_handed)
        verify = None if is_replayed else self._verifying.of(asked, allows_host)
        found = in_stored_form(asked, allows_host)
        if found is not None:
            task = self._task(
                asked,
                body,
                plan,
                verify,
                found[0],
                task_id=task_id,
                created_at=created_at,
                is_confirmed=is_confirmed,
            )
            task.site = found[1]
            return task
        make = partial(
            self._task,
            asked,
            body,
            plan,
            verify,
            task_id=task_id,
            created_at=created_at,
            is_confirmed=is_confirmed,
        )
        return Draft(Normaliser(asked, allows_host, is_replayed=is_replayed), make)

    def _task(
        self,
        asked: TaskBody,
        body: bytes,
        plan: Plan,
        verify: Verify | None,
        targets: list[str],
        *,
        task_id: str,
        created_at: float,
        is_confirmed: bool,
    ) -> Task:
        action, kind, prefetch, due_s = asked.action, asked.kind, asked.prefetch, asked.due_s
        task = Task(
            id=task_id,
            action=action,
            kind=kind,
            targets=targets,
            soft=asked.soft,
            prefetch=prefetch,
            callback=asked.callback,
            due_s=self._due_s if due_s is None else due_s,
            body=journal_body(asked, body),
            digest=digest_of(asked) if asked.id else b"",
            created_at=created_at,
        )
        task.plan, task.verify = plan, verify
        start_at = asked.start_at
        if isinstance(start_at, float) and start_at > created_at:
            task.start_at, task.is_scheduled = start_at, True
            task.due_at = task.start_at + task.due_s
        if action == "purge" and kind == "url":
            rebound_s = asked.rebound_s
            if isinstance(rebound_s, float):
                task.rebound_s = task.rebound_asked_s = rebound_s
            else:
                task.rebound_s = self._rebound_s
        task.total = subtask_count(plan, len(targets), action, prefetch=prefetch)
        self._check_confirmed(task, is_confirmed)
        return task

    def _check_confirmed(self, task: Task, is_confirmed: bool) -> None:
        if self.confirming.asks and not is_confirmed:
            self.confirming.check(task)


def unplanned(record: Accepted) -> Task:
    """Return a task of the journal that cannot be planned, as far as its body can be read.

    Nobody knows its nodes, so its targets are its subtasks.
    """
    task = Task.internal([], owner=None, task_id=record.id)
    task.created_at, task.due_s, task.due_at = record.created_at, record.due_s, record.created_at
    task.digest, task.token, task.by = record.digest, record.token, record.by
    task.traceparent = record.traceparent
    with contextlib.suppress(RequestError):
        asked = decode(record.body)
        task.action, task.kind = Action(asked.action), Kind(asked.kind)
        task.soft, task.prefetch, task.callback = asked.soft, asked.prefetch, asked.callback
        task.total = len(asked.targets)
    return task
