"""The command ``outbox``, and what ``purge --outbox`` keeps when no engine takes it."""

from __future__ import annotations

import os
import time

from engine.cli.cells import OUTBOX_COLUMNS
from engine.cli.connect import connect
from engine.cli.exits import DONE, FAILED, UsageError, fail
from engine.client.errors import DamagedEntryError, OutboxError

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from engine.cli.client import EngineClient
    from engine.cli.screen import Output
    from engine.client.bodies import Document
    from engine.client.outbox import Entry, Outbox
    from engine.client.sending import Outcome


SPOOLED = "spooled"  #: state of a task that is in the outbox, as it is shown


def outbox_of(args: argparse.Namespace) -> Outbox | None:
    """Return the outbox that the options or the environment name."""
    folder = args.outbox or os.environ.get("PURGELINE_OUTBOX")
    if not folder:
        return None
    from engine.client.outbox import Outbox  # noqa: PLC0415 - most commands have none

    return Outbox(folder)


def keep(outbox: Outbox, requests: Sequence[Document]) -> list[Document]:
    """Keep tasks that no engine took, and return what is shown of them.

    Raises:
        OutboxError: one cannot be kept, nor were those after it; the text says how many.
    """
    from engine.client.bodies import encode  # noqa: PLC0415 - as above

    for number, request in enumerate(requests):
        try:
            outbox.put(request["id"], encode(request))
        except OutboxError as exc:
            lost = len(requests) - number
            raise OutboxError(f"{exc}" + (f", nor are {lost - 1} more" if lost > 1 else "")) from exc
    return [{"task_id": request["id"], "state": SPOOLED, "total": 0} for request in requests]


def send_some(outbox: Outbox, client: EngineClient, notice: Callable[[str], None]) -> None:
    """Send a few tasks of the outbox, now that an engine answers; whatever is wrong is told."""
    from engine.client import sending  # noqa: PLC0415 - as above

    if not outbox.is_empty():
        sending.send_some(outbox, client, notice)


def outbox(args: argparse.Namespace, out: Output) -> int:
    """List, send or drop what an outbox has."""
    found = outbox_of(args)
    if found is None:
        raise UsageError("outbox: name its folder with --outbox DIR, or in PURGELINE_OUTBOX")
    if args.act != "drop" and args.ids:
        raise UsageError(f"outbox {args.act}: takes no ids; drop does")
    if args.act != "send" and (args.alert_after is not None or args.alert_url or args.alert_config):
        raise UsageError(f"outbox {args.act}: takes no --alert-after, --alert-url, --alert-config; send does")
    return {"list": _list, "send": _send, "drop": _drop}[args.act](args, out, found)


def _list(args: argparse.Namespace, out: Output, found: Outbox) -> int:
    rows = [] if args.refused else [_row(found, entry, "waiting") for entry in found.entries()]
    rows += [_row(found, entry, "refused") for entry in found.refused()]
    out.documents(rows, OUTBOX_COLUMNS)
    return DONE


def _send(args: argparse.Namespace, out: Output, found: Outbox) -> int:
    from engine.client import operations, sending  # noqa: PLC0415 - this command alone

    if args.alert_url and args.alert_config:
        raise UsageError("--alert-url: not beside --alert-config, whose file says where")
    if args.alert_url or args.alert_config:
        from engine.cli.outbox_alert import receivers_of  # noqa: PLC0415 - as above

        receivers_of(args)
        if args.alert_after is None:
            raise UsageError("--alert-url, --alert-config: say where; --alert-after S says from what age on")
    if args.refused:
        found.restore()
    with connect(args, out, busy_attempts=1) as client:  # what is busy now is sent by the next run
        outcome = sending.send(found, lambda body: client.run(operations.submit(body)), out.notice)
    code = _told(out, found, outcome)
    if args.alert_after is not None:
        from engine.cli.outbox_alert import alert  # noqa: PLC0415 - as above

        code = max(code, alert(args, out, found, outcome))
    return code


def _told(out: Output, found: Outbox, outcome: Outcome) -> int:
    """Show what came of a run, and return the exit code; what was set aside counts until it is dropped."""
    from engine.client.bodies import tasks_of  # noqa: PLC0415 - as above

    aside = len(found.refused())
    out.mapping({"sent": outcome.sent, "waiting": outcome.left, "refused": aside})
    code = DONE
    if outcome.is_elsewhere:
        out.notice("another sender is at work")
    if outcome.error is not None:
        code = fail(
            out,
            outcome.error,
            f"post to engine failed: {outcome.error}; {tasks_of(outcome.left)} still to be sent",
        )
    if aside:
        text = (
            f"set aside: {tasks_of(aside)}; `outbox list` says why, `outbox send --refused` tries them again"
        )
        code = max(code, out.error(text, exit_code=FAILED))
    return code


def _drop(args: argparse.Namespace, out: Output, found: Outbox) -> int:
    if bool(args.ids) == (args.all or args.refused):
        raise UsageError("outbox drop: takes ids of tasks, or --refused, or --all")
    chosen = list(_chosen(args, found))
    missing = sorted(set(args.ids) - {entry.task_id for entry in chosen})
    for entry in chosen:
        found.remove(entry)
    if chosen:
        found.settle()
    out.documents([{"task_id": entry.task_id, "state": "dropped"} for entry in chosen], OUTBOX_COLUMNS[:2])
    if missing:
        return out.error(f"not in the outbox: {', '.join(missing)}", exit_code=FAILED)
    return DONE


def _chosen(args: argparse.Namespace, found: Outbox) -> Iterator[Entry]:
    for entry in (*(() if args.refused else found.entries()), *found.refused()):
        if not args.ids or entry.task_id in args.ids:
            yield entry


def _row(found: Outbox, entry: Entry, state: str) -> Document:
    import json  # noqa: PLC0415 - as above

    row = {
        "task_id": entry.task_id,
        "state": state,
        "kept_at": entry.kept_at,
        "age_s": round(max(0.0, time.time() - entry.kept_at), 1),
        "bytes": entry.size,
        "targets": 0,
        "reason": "",
    }
    try:
        content = found.read(entry)
        return {
            **row,
            "targets": len(json.loads(content["body"])["targets"]),
            "reason": content.get("reason", ""),
        }
    except (OSError, DamagedEntryError, ValueError, KeyError, TypeError) as exc:
        return {**row, "reason": str(exc)}
