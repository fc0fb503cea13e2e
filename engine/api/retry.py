"""Retrying: what failed of a task goes out again, as tasks that name it (`engine.tasks.retrying`).

What failed is in the history, target by target. Without it the errors of the document tell, if they tell all.
The ids of retries are made of the task's, so two requests at a time, wherever they arrive, begin one retry. A
task is retried again when its retry has settled: then what failed of that is sent, and what that left out.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from engine.api.answers import reply_to
from engine.api.schemas import LeftOut, Retried, RetryPreview
from engine.errors import RequestError
from engine.history.recall import FailedShare, FailedTask
from engine.intake.client import Again
from engine.tasks import stored_documents
from engine.tasks.lower import below_of
from engine.tasks.retrying import Sent, groups_of, id_of, owed_of
from engine.tasks.words import Action, State, operation_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from engine.api.find import FindTask
    from engine.api.recalling import Recalling
    from engine.intake.admission import Admission
    from engine.intake.auth import Token
    from engine.intake.client import Client
    from engine.intake.replies import Reply
    from engine.observe.audit import Audit
    from engine.saver.reader import StoreReader
    from engine.tasks.retrying import Failed, Group
    from engine.tasks.task import Task

RETRIES_MAX: Final = 100  #: of one task
_AT_WORK: Final = frozenset({State.ACCEPTED, State.RUNNING})
_ACCEPTED: Final = frozenset({200, 202})  #: 200: another request has just begun the same retry
_CONFLICT: Final = 409
_GONE: Final = "it is not configured any more: nothing can be sent to it"

Document = dict[str, Any]


class _Plan(NamedTuple):
    """What a retry sends."""

    document: Document  #: of the task that is retried
    number: int  #: of the retry, from 1
    bodies: list[Document]  #: of the new tasks
    left_out: list[LeftOut]


class RetryTask:
    """Retries tasks.

    Args:
        find: finds them.
        recalling: tells what failed.
        reader: its threads do all that takes long, so the loop goes on.
        admission: takes the new tasks in.
        task_of: returns the task that a body would be; see `engine.api.preview.PreviewTask.task`.
        nodes: the names of the configured ones.
        audit: told of each retry.
    """

    def __init__(
        self,
        find: FindTask,
        recalling: Recalling,
        admission: Admission,
        *,
        task_of: Callable[[bytes, Token], Awaitable[Task]],
        reader: StoreReader,
        nodes: Collection[str],
        audit: Audit,
    ) -> None:
        self._find = find
        self._recalling = recalling
        self._task_of = task_of
        self._reader = reader
        self._admission = admission
        self._nodes = nodes
        self._audit = audit

    async def retry(self, task_id: str, client: Client) -> Retried:
        """Send what failed of a task again.

        Raises:
            RequestError: 404, no such task that the client may see; 409, nothing of it can be sent again: it
                has not settled, nothing failed, its nodes are gone, or a retry is at work; and what a task
                may be refused for.
            StoreError: a store cannot be read or written, or a worker does not answer.
        """
        return await self._send(await self._plan(task_id, client.token), client)

    async def preview(self, task_id: str, client: Client) -> RetryPreview:
        """Return what `retry` would send, if it were asked for now.

        Raises:
            RequestError: it would be refused, see `retry`.
            StoreError: as there.
        """
        plan = await self._plan(task_id, client.token)
        left_out = list(plan.left_out)
        nodes: dict[str, None] = {}
        total = 0
        for body in plan.bodies:
            try:
                task = await self._task_of(msgspec.json.encode(body), client.token)
            except RequestError as exc:
                if not total and body is plan.bodies[-1]:
                    raise
                left_out += _refused(body, str(exc))
                continue
            assert task.plan is not None
            total += task.total
            nodes.update(dict.fromkeys(step.node for step in task.plan.steps))
        return RetryPreview(True, total, plan.document["task_id"], list(nodes), left_out)

    # What is to be sent

    async def _plan(self, task_id: str, token: Token) -> _Plan:
        """Return what is to be sent.

        Raises:
            RequestError: nothing is, see `retry`.
        """
        document = await self._find.document(task_id, token)
        root = document["retries"] or task_id
        if root != task_id:
            document = await self._find.document(root, token)
        rounds = await self._rounds(root)
        first, sent, soft = await self._told(document, rounds)
        owed = await self._reader.read(owed_of, first, sent)
        if not owed:
            raise RequestError(_CONFLICT, _nothing_failed(document, rounds))
        here = [one for one in owed if one[0] in self._nodes]
        left_out = [
            LeftOut(node, len(targets), _GONE) for node, _, targets in owed if node not in self._nodes
        ]
        if not here:
            names = ", ".join(sorted({node for node, _, _ in owed}))
            raise RequestError(
                _CONFLICT,
                f"what failed of task {root!r} was for {names}, which is not configured any more: put it "
                "back into the configuration and retry, or hand the targets in for other nodes",
            )
        if len(rounds) == RETRIES_MAX:
            detail = f"task {root!r} has been retried {RETRIES_MAX} times: hand it in anew"
            raise RequestError(_CONFLICT, detail)
        groups = await self._reader.read(groups_of, here)
        lower = await self._lower_of(root)
        bodies = [
            {**_body(document, group, soft=soft), **names}
            for group in groups
            for names in below_of(group.nodes, lower)
        ]
        return _Plan(document, len(rounds) + 1, bodies, left_out)

    async def _lower_of(self, root: str) -> dict[str, list[str]]:
        """Return which nodes a task was for below those that are engines, by the names of these."""
        found = await self._find.private(root)
        lower = {} if found is None else found.get("lower") or {}
        return {node: list(one["nodes"]) for node, one in lower.items() if one.get("nodes")}

    async def _rounds(self, root: str) -> list[list[Document]]:
        """Return the retries of a task, in their order: the tasks of each."""
        rounds: list[list[Document]] = []
        while len(rounds) < RETRIES_MAX:
            tasks = await self._tasks_of(root, len(rounds) + 1)
            if not tasks:
                break
            # A version before let clients take such ids.
            rounds.append([task for task in tasks if task["retries"] == root])
        return rounds

    async def _tasks_of(self, root: str, number: int) -> list[Document]:
        tasks: list[Document] = []
        while (found := await self._find.private(id_of(root, number, len(tasks)))) is not None:
            tasks.append(stored_documents.public(found))
        return tasks

    async def _told(
        self, document: Document, rounds: Sequence[Sequence[Document]]
    ) -> tuple[list[Failed], list[list[Sent]], bool]:
        """Return what failed of a task, what its retries made of it, and whether its purges were soft.

        Raises:
            RequestError: 409, one of them is not over, or nobody knows.
        """
        for task in (task for tasks in rounds for task in tasks):
            if task["state"] in _AT_WORK or task["state"] == State.PARTIAL:
                raise RequestError(_CONFLICT, _at_work(document["task_id"], task))
        if document["state"] in _AT_WORK:
            detail = (
                f"task {document['task_id']!r} is {document['state']}: it can be retried when it has settled"
            )
            raise RequestError(_CONFLICT, detail)
        if not document["failed"]:
            return [], [], False
        told = await self._failed_of(document)
        soft = told.soft
        sent: list[list[Sent]] = []
        for tasks in rounds:
            sent.append([])
            for task in tasks:
                found = await self._failed_of(task, with_targets=True)
                soft = soft or found.soft
                sent[-1].append(_sent(task, found))
        return _shares(told), sent, soft

    async def _failed_of(self, task: Document, *, with_targets: bool = False) -> FailedTask:
        """Return what failed of a task that has settled.

        Args:
            task: its document.
            with_targets: all of its targets are asked for, too.

        Raises:
            RequestError: 409, nobody knows any more.
        """
        told = _told_by(task)
        if with_targets and told.targets and not task["failed"]:
            return told
        found = await self._recalling.failed(task["task_id"], task["created_at"])
        if found is not None:
            found.targets = found.targets or told.targets
            if _count(found) >= task["failed"] and (found.targets or not with_targets):
                return found
        if _count(told) == task["failed"] and (told.targets or not with_targets):
            return told
        raise RequestError(
            _CONFLICT,
            f"nobody knows any more what failed of task {task['task_id']!r}: the history has let it go, by "
            f"engine.history_days or engine.history_max_bytes, and its errors name {len(task['errors'])} of "
            f"{task['failed']}; hand its targets in anew",
        )

    # Sending it

    async def _send(self, plan: _Plan, client: Client) -> Retried:
        """Hand the new tasks in; what is refused is left out, unless all are.

        Raises:
            RequestError: all are refused.
        """
        root = plan.document["task_id"]
        left_out = list(plan.left_out)
        ids: list[str] = []
        total = 0
        again = client._replace(again=Again(retries=root))
        for body in plan.bodies:
            text = msgspec.json.encode({"id": id_of(root, plan.number, len(ids)), **body})
            reply = await reply_to(partial(self._admission.submit, text, again))
            said = msgspec.json.decode(reply.body)
            if reply.status in _ACCEPTED:
                ids.append(said["task_id"])
                total += said["total"]
                continue
            if not ids and body is plan.bodies[-1]:
                raise error_of(reply)
            left_out += _refused(body, said["detail"])
        self._audit.retried(plan.document, client.by, total, ids[0])
        return Retried(ids[0], "accepted", total, root, ids, left_out)


def _refused(body: Document, reason: str) -> list[LeftOut]:
    return [LeftOut(node, len(body["targets"]), reason) for node in body["nodes"]]


def _body(document: Document, group: Group, *, soft: bool) -> Document:
    """Return the body of a task that sends what failed."""
    body: Document = {
        "targets": group.targets,
        "nodes": group.nodes,
        "on_incapable": "skip",
        "confirm": True,  # its client has done so
    }
    if group.is_prefetch:
        body["action"] = Action.PREFETCH.value
    else:
        body |= {"kind": document["kind"], "prefetch": group.with_prefetch, "soft": soft}
    if document["kind"] == "url" and any(target.endswith("*") for target in group.targets):
        body["literal"] = True
    return body


def error_of(reply: Reply) -> RequestError:
    """Return the error that a refusal tells."""
    said = msgspec.json.decode(reply.body)
    headers = {name: value for name, value in reply.headers.items() if name == "Retry-After"}
    return RequestError(reply.status, said["detail"], field=said.get("field", ""), headers=headers)


def _told_by(task: Document) -> FailedTask:
    """Return what a document tells: nothing of a soft purge, and a hard one does more."""
    operation = operation_of(task["action"], task["kind"], soft=False)
    shares: dict[str, dict[str, None]] = {}
    for error in task["errors"]:
        shares.setdefault(error["node"], {})[error["target"]] = None
    found = [FailedShare(node, int(operation), list(targets)) for node, targets in shares.items()]
    targets = list(task["targets"])
    return FailedTask(task["state"], False, found, targets if len(targets) == task["target_count"] else [])


def _count(found: FailedTask) -> int:
    return sum(len(share.targets) for share in found.shares)


def _shares(found: FailedTask) -> list[Failed]:
    return [(share.node, share.operation, share.targets) for share in found.shares]


def _sent(task: Document, found: FailedTask) -> Sent:
    """Return a task of a retry; one that purges and fetches has two subtasks of each target."""
    nodes = {node["name"] for node in task["nodes"]}
    is_purge = task["action"] == Action.PURGE
    fetches = not is_purge or task["total"] > len(nodes) * task["target_count"]
    return Sent(nodes, found.targets, is_purge, fetches, _shares(found))


def _at_work(root: str, task: Document) -> str:
    return (
        f"what failed of task {root!r} is being sent again, as task {task['task_id']!r}, which is "
        f"{task['state']}"
    )


def _nothing_failed(document: Document, rounds: Sequence[Sequence[Document]]) -> str:
    name, state = document["task_id"], document["state"]
    again = [tasks[0] for tasks in rounds if tasks]
    if again:
        last = again[-1]
        return f"what failed of task {name!r} was sent again as {last['task_id']!r}, which is {last['state']}"
    if document["delayed"]:
        return f"nothing of task {name!r} has failed: what waits is delivered by itself, see its errors"
    return f"nothing of task {name!r} has failed: it is {state}"
