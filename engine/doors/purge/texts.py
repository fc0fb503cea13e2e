"""What a purge door answers: a line of plain text for people, and a status that clients of caches expect.

Success is 200 alone: 202 and 404 are failures to some clients, or a reason to ask again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from engine.base.phrases import phrase_of
from engine.intake.problems import Problem
from engine.intake.replies import Reply

if TYPE_CHECKING:
    from engine.doors.asked import Asked
    from engine.doors.submitting import Saved

TEXT: Final = "text/plain; charset=utf-8"
TASK: Final = "Purgeline-Task"  #: the field with the ids of the tasks
_SHOWN_MAX: Final = 3  #: targets that are named
_SHOWN_CHARS: Final = 200  #: of one
_decode = msgspec.json.Decoder(Problem).decode


def understood(asked: Asked) -> str:
    """Return what a request was read as, in one line."""
    targets = asked.targets
    only = targets[0]
    if (
        len(targets) == 1
        and asked.kind == "url"
        and len(only) <= _SHOWN_CHARS
        and not asked.soft | asked.prefetch
    ):
        return f"purge, url: {only}"  # nearly all are
    named = _shown(only)
    for target in targets[1:_SHOWN_MAX]:
        named += f" {_shown(target)}"
    if len(targets) > _SHOWN_MAX:
        named += f" and {len(targets) - _SHOWN_MAX} more"
    how = "soft purge" if asked.soft else "purge and prefetch" if asked.prefetch else "purge"
    return f"{how}, {asked.kind}: {named}"


def _shown(target: str | dict[str, str]) -> str:
    if not isinstance(target, str):
        target = f"{target['host']}/{target['key']}"
    return target if len(target) <= _SHOWN_CHARS else f"{target[:_SHOWN_CHARS]}..."


def success(asked: Asked, saved: Saved, *, is_old: bool) -> Reply:
    """Return the 200 of a purge that is saved.

    Args:
        asked: what the request was read as.
        saved: its tasks.
        is_old: the client has to be told that the connection goes on.
    """
    ids = ", ".join(saved.task_ids)
    text = f"{understood(asked)}\n{_progress(saved)}\n"
    return Reply(200, text.encode(), TEXT, {TASK: ids, "Connection": "keep-alive"} if is_old else {TASK: ids})


def _progress(saved: Saved) -> str:
    """Return what became of the subtasks so far."""
    if not saved.tasks:
        return f"saved, {saved.total} subtask{'s' * (saved.total != 1)}"
    shares = [share for task in saved.tasks for share in task.shares]
    acked = sum(share.acked_count for share in shares)
    failed = sum(share.failed_count for share in shares)
    left = saved.total - acked - failed - sum(share.cancelled_count for share in shares)
    line = f"{acked} of {saved.total} subtasks acked"
    if left:
        nodes = {
            share.node.name for share in shares if share.acked_count + share.failed_count < len(share.states)
        }
        line += f", {left} on their way ({', '.join(sorted(nodes)) or 'not begun'})"
    errors = [error for task in saved.tasks for error in task.errors][:_SHOWN_MAX]
    return line + "".join(f"\n{error['node']}: {error['reason']}" for error in errors)


def has_failed(saved: Saved) -> bool:
    """Tell whether a cache has refused a part of it for good."""
    return any(share.failed_count for task in saved.tasks for share in task.shares)


def failure(asked: Asked, saved: Saved) -> Reply:
    """Return the 502 of a purge that a cache will never do."""
    text = f"{understood(asked)}\n{_progress(saved)}\n"
    return Reply(502, text.encode(), TEXT, {TASK: ", ".join(saved.task_ids)})


def refusal(reply: Reply, task_ids: tuple[str, ...] = ()) -> Reply:
    """Return the reply of an error as text.

    Args:
        reply: a problem document.
        task_ids: of the same request, which are saved all the same.
    """
    try:
        detail = _decode(reply.body).detail
    except msgspec.DecodeError:
        detail = phrase_of(reply.status)
    headers = dict(reply.headers)
    if task_ids:
        headers[TASK] = ", ".join(task_ids)
        detail += f"; {len(task_ids)} tasks of this request are saved, send it again for the rest"
    return Reply(reply.status, f"{detail}\n".encode(), TEXT, headers)
