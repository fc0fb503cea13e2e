"""``purgeline retry`` and ``purgeline rewind``: what is sent once more."""

from __future__ import annotations

from engine.cli.cells import RETRIED_COLUMNS, WOULD_RETRY_COLUMNS, rows_of
from engine.cli.connect import connect
from engine.cli.exits import DONE, FAILED, UsageError, fail
from engine.cli.views import follow
from engine.client.errors import RefusedError

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    import argparse
    from typing import Final

    from engine.cli.client import EngineClient
    from engine.cli.screen import Output
    from engine.client.bodies import Document

_FILTERS: Final = ("node", "host", "target", "by", "reason", "since", "until")
_TOLD: Final = 10  #: tasks that are not retried, by name
_CONFLICT: Final = 409


def retry(args: argparse.Namespace, out: Output) -> int:
    """Send what failed of tasks again: of those that are named, or of all that are asked for."""
    asked = {name: value for name in _FILTERS if (value := getattr(args, name)) not in {None, ""}}
    if bool(args.ids) == bool(asked):
        raise UsageError(
            "retry: takes ids of tasks, or at least one of --node, --host, --target, --by, --reason, "
            "--since, --until"
        )
    columns = WOULD_RETRY_COLUMNS if args.dry_run else RETRIED_COLUMNS
    with connect(args, out) as client:
        rest: Document = {}
        if args.ids:
            code, retried = _by_name(args, client, out)
        else:
            code, retried, rest = _by_filter(args, asked, client, out)
        for task in retried:
            for left in rows_of(task, "left_out"):
                out.notice(
                    f"warning: {left['targets']} targets of task {task['retries']} for {left['node']} are "
                    f"not sent: {left['reason']}"
                )
        ids = [task_id for task in retried for task_id in task.get("tasks", ())]
        if args.wait and ids:
            if out.as_json:
                _show(out, retried, columns, rest)
            return max(code, follow(client, out, ids))
    _show(out, retried, columns, rest)
    return code


def _show(out: Output, retried: list[Document], columns: tuple[str, ...], rest: Document) -> None:
    """Print what is sent again; in JSON what is not, too, in a document behind the others."""
    out.documents(retried, columns)
    if out.as_json and rest:
        out.json(rest)


def _by_name(args: argparse.Namespace, client: EngineClient, out: Output) -> tuple[int, list[Document]]:
    code, retried = DONE, []
    for task_id in args.ids:
        try:
            retried.append(client.retry(task_id, dry_run=args.dry_run))
        except RefusedError as exc:
            if exc.status != _CONFLICT:
                code = max(code, fail(out, exc))
            else:  # the command is right, and there is nothing to do
                code = max(code, out.error(str(exc), exit_code=FAILED, status=exc.status))
    return code, retried


def _by_filter(
    args: argparse.Namespace, asked: Document, client: EngineClient, out: Output
) -> tuple[int, list[Document], Document]:
    found = client.retries({**asked, "state": args.state}, limit=args.limit, dry_run=args.dry_run)
    if why := found.get("incomplete"):
        out.notice(f"warning: some of the history is missing: {why}")
    others = found["not_retried"]
    for one in others[:_TOLD]:
        out.notice(f"{one['task_id']} is not retried: {one['reason']}")
    if len(others) > _TOLD:
        out.notice(f"{len(others) - _TOLD} more tasks are not retried; --json names all")
    retried = found["tasks"]
    if args.dry_run:  # a task and its retries lead to the same one, from any page of the answer
        retried = list({task["retries"]: task for task in retried}.values())
    if not retried:
        out.notice("nothing would be sent again" if args.dry_run else "nothing is sent again")
    if found["cursor"]:
        out.notice(f"there are more: {args.limit} tasks were looked at (--limit)")
    return DONE, retried, {name: value for name, value in found.items() if name != "tasks"}


def rewind(args: argparse.Namespace, out: Output) -> int:
    """Send what was purged between two times to one node once more; or stop that."""
    asked = {name: getattr(args, name) for name in ("node", "since", "until", "host", "rate_per_s")}
    others = [name for name, value in asked.items() if value is not None and name != "node"]
    if args.stop:
        if others or args.wait:
            raise UsageError("rewind: --stop takes --node alone")
        return _stop(args, out)
    if args.since is None:
        raise UsageError("rewind: takes --since T, from when on purges are sent once more; or --stop")
    with connect(args, out) as client:
        document = client.rewind({name: value for name, value in asked.items() if value is not None})
        if why := document.get("incomplete"):
            out.notice(f"warning: some of the history is missing, and is not sent: {why}")
        for left in rows_of(document, "left_out"):
            out.notice(
                f"warning: {left['targets']} targets of kind {left['kind']} are not sent: {left['reason']}"
            )
        if out.as_json:
            out.json(document)
        else:
            out.mapping({key: value for key, value in document.items() if key not in {"tasks", "left_out"}})
        waits = args.wait and bool(document["tasks"])
        return follow(client, out, document["tasks"], is_brief=True) if waits else DONE


def _stop(args: argparse.Namespace, out: Output) -> int:
    with connect(args, out) as client:
        document = client.stop_rewind(args.node)
    if out.as_json:
        out.json(document)
    else:
        out.mapping({**document, "cancelled": len(document["cancelled"])})
    return DONE
