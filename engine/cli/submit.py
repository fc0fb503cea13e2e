"""The commands ``purge`` and ``prefetch``: targets in, tasks out."""

from __future__ import annotations

import sys

from engine.cli.cells import ACCEPTED_COLUMNS
from engine.cli.connect import connect
from engine.cli.exits import DONE, INTERRUPTED, UsageError, exit_code_of, fail, hint
from engine.cli.outbox import SPOOLED, keep, outbox_of, send_some
from engine.cli.preview import agrees, is_terminal, preview, show
from engine.cli.values import file
from engine.cli.views import follow
from engine.client.bodies import encode, new_id, split, tasks_of
from engine.client.errors import RefusedError, UnreachableError

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from engine.cli.client import EngineClient
    from engine.cli.screen import Output
    from engine.client.bodies import Document
    from engine.client.outbox import Outbox

ID_MAX = 64  #: characters of a task id
ABOUT_ONE_TASK = frozenset({400, 409, 413, 422})  #: refusals that say nothing about the next task


def hand_in(args: argparse.Namespace, out: Output) -> int:
    """Hand in the tasks of ``purge`` or ``prefetch``; with ``--wait``, until they are settled."""
    requests = list(_requests(args, _targets(args)))
    if args.dry_run:
        return preview(args, out, requests)
    accepted: list[Document] = []
    ids: list[str] = []
    outbox = outbox_of(args)
    with connect(args, out) as client:
        try:
            code = _submit(client, out, requests, ids=ids, accepted=accepted, outbox=outbox)
        except KeyboardInterrupt:
            out.documents(accepted, ACCEPTED_COLUMNS)
            return out.error(f"interrupted; {hint(ids)}", exit_code=INTERRUPTED)
        taken = [document for document in accepted if document["state"] != SPOOLED]
        if outbox is not None and taken:
            send_some(outbox, client, out.notice)
        if args.wait and taken:
            out.documents([one for one in accepted if one["state"] == SPOOLED], ACCEPTED_COLUMNS)
            return max(code, follow(client, out, [document["task_id"] for document in taken]))
    out.documents(accepted, ACCEPTED_COLUMNS)
    return max([code, *map(exit_code_of, accepted)])


def _submit(
    client: EngineClient,
    out: Output,
    requests: list[Document],
    *,
    ids: list[str],
    accepted: list[Document],
    outbox: Outbox | None = None,
) -> int:
    """Hand in *requests*, noting in *ids* what was sent, in *accepted* what was taken or is in *outbox*."""
    code = DONE
    for number, request in enumerate(requests):
        ids.append(request["id"])
        try:
            accepted.append(_confirmed(client, out, requests[number:]))
        except (UnreachableError, RefusedError) as exc:
            if outbox is not None and (isinstance(exc, UnreachableError) or exc.is_busy):
                kept = keep(outbox, requests[number:])
                accepted += kept
                later = (
                    f"{exc}; {tasks_of(len(kept))} kept in the outbox {outbox.folder}: purgeline outbox send"
                )
                return max(code, fail(out, exc, later))
            text = f"task {number + 1} of {len(requests)}: {exc}" if len(requests) > 1 else str(exc)
            if isinstance(exc, UnreachableError) and exc.sent:
                base = request["id"] if len(requests) == 1 else request["id"].removesuffix(f"-{number + 1}")
                text += f"; it may have been accepted: the same command with --id {base} is safe to repeat"
            goes_on = isinstance(exc, RefusedError) and exc.status in ABOUT_ONE_TASK
            unsent = sum(len(later["targets"]) for later in requests[number + 1 :])
            if unsent and not goes_on:
                text += f"; {unsent} more targets were not sent"
            code = max(code, fail(out, exc, text))
            if not goes_on:
                break
    return code


def _confirmed(client: EngineClient, out: Output, requests: list[Document]) -> Document:
    """Hand in the first of *requests*; where it has to be confirmed, ask for all of them.

    Raises:
        RefusedError: the engine refuses it, or the user does not confirm it.
    """
    try:
        return client.submit(encode(requests[0]))
    except RefusedError as exc:
        if exc.field != "confirm" or out.as_json or not is_terminal():
            raise
        show(out, client.preview(encode(requests[0])))
        if not agrees(exc.detail, sum(len(request["targets"]) for request in requests)):
            raise
        for request in requests:
            request["confirm"] = True
        return client.submit(encode(requests[0]))


def _targets(args: argparse.Namespace) -> list[str]:
    """Return the targets of command line, files and standard input; all are read before any is sent."""
    targets = [target for target in args.targets if target != "-"]
    sources = [*args.file, *(["-"] if "-" in args.targets else [])]
    if not targets and not sources and sys.stdin is not None and not sys.stdin.isatty():
        sources.append("-")
    for source in sources:
        try:
            content = _standard_input() if source == "-" else file(source).read_bytes()
            lines = content.decode("utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as exc:
            raise UsageError(f"targets from {source!r} cannot be read: {exc}") from exc
        targets += [line for line in map(str.strip, lines) if line and line[0] != "#"]
    if not targets:
        raise UsageError("no target: name URLs, or pipe them in, or give --file F")
    return targets


def _standard_input() -> bytes:
    return b"" if sys.stdin is None else sys.stdin.buffer.read()  # None: closed by the shell, <&-


def _requests(args: argparse.Namespace, targets: list[str]) -> Iterator[Document]:
    """Yield the tasks to hand in: several, when one task may not have that many targets."""
    options = {
        "soft": args.soft,
        "prefetch": args.prefetch,
        "layers": args.layer,
        "nodes": args.node,
        "groups": args.group,
        "callback": args.callback,
        "due_s": args.due,
        "on_incapable": args.on_incapable,
        "rebound_s": args.rebound,
        "start_at": args.at,
        "literal": args.literal,
        "confirm": args.confirm,
    }
    given = {key: value for key, value in options.items() if value or isinstance(value, float)}
    if args.verify is not None:
        given["verify"] = args.verify
    elif args.verify_url:
        given["verify"] = {"urls": args.verify_url}
    try:
        encode({**given, "targets": args.targets})
    except UnicodeEncodeError as exc:
        raise UsageError("an argument is not UTF-8") from exc
    parts = list(split(targets))
    task_id = args.id or new_id()
    for number, part in enumerate(parts, start=1):
        part_id = task_id if len(parts) == 1 else f"{task_id}-{number}"
        if len(part_id) > ID_MAX:
            raise UsageError(f"--id: {len(parts)} tasks are needed, and {part_id!r} is longer than {ID_MAX}")
        yield {"id": part_id, "action": args.command, "kind": args.kind, **given, "targets": part}
