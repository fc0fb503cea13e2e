"""Commands that look at an engine: tasks (and cancel one), nodes, the cluster, statistics, the version."""

from __future__ import annotations

import time

from engine._version import __built_at__, __revision__, __version__
from engine.base import form
from engine.cli.cells import ENGINE_COLUMNS, NODE_COLUMNS, SHARE_COLUMNS, TASK_COLUMNS
from engine.cli.connect import connect
from engine.cli.exits import DONE, INTERRUPTED, exit_code_of, fail, hint
from engine.cli.leaves import LEAF_COLUMNS, REGION_COLUMNS, TASK_REGION_COLUMNS, regions_of
from engine.cli.waiting import wait, what_was_absent, what_was_verified, why_waiting
from engine.client.errors import RefusedError, UnreachableError

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from engine.cli.client import EngineClient
    from engine.cli.screen import Output
    from engine.client.bodies import Document

FILTERS = ("target", "host", "node", "by", "action", "state", "since", "until")
VERSION_TIMEOUT_S = 2.0  #: `version` does not wait long for an engine that need not be there


def status(args: argparse.Namespace, out: Output) -> int:
    """Show one task, with its targets and what each node did; its state is the exit code."""
    with connect(args, out) as client:
        document = client.task(args.id, leaves=args.leaves)
    out.results([document], is_whole=True)
    if args.leaves and not out.as_json:
        out.rows("region", TASK_REGION_COLUMNS, document.get("regions", ()))
        out.rows("leaf", SHARE_COLUMNS, document.get("leaves", ()))
    if document.get("failed") and not document.get("active"):
        again = document.get("retries") or document["task_id"]
        out.notice(f"`purgeline retry {again}` sends what failed again, or says as which task it was")
    return exit_code_of(document)


def watch(args: argparse.Namespace, out: Output) -> int:
    """Show the progress of tasks until they are settled."""
    with connect(args, out) as client:
        return follow(client, out, args.ids, has_answered=False)


def follow(
    client: EngineClient,
    out: Output,
    ids: Sequence[str],
    *,
    has_answered: bool = True,
    is_brief: bool = False,
) -> int:
    """Wait for tasks with a progress bar, show what became of them, and return the exit code.

    Args:
        client: asks the engine.
        out: shows it.
        ids: of the tasks.
        has_answered: the engine has answered *client* before.
        is_brief: tasks that are done are not shown, but in JSON.
    """
    began = time.monotonic()
    try:
        with out.progress() as show:
            documents = wait(client, ids, report=show, say=out.interim, has_answered=has_answered)
    except KeyboardInterrupt:
        return out.error(f"interrupted; {hint(ids)}", exit_code=INTERRUPTED)
    except (UnreachableError, RefusedError) as exc:
        is_away = isinstance(exc, UnreachableError) or exc.is_busy
        return fail(out, exc, f"{exc}; {hint(ids)}" if is_away else "")
    told = [one for one in documents if one["state"] != "done"] if is_brief and not out.as_json else documents
    if told:
        out.results(told)
    waits = why_waiting(documents, time.monotonic() - began)
    lines = (what_was_absent(documents), waits, what_was_verified(documents))
    for line in filter(None, lines):
        out.notice(line)
    return max(map(exit_code_of, documents))


def cancel(args: argparse.Namespace, out: Output) -> int:
    """Cancel what has no answer of a task; nothing of it is sent again."""
    with connect(args, out) as client:
        out.results([client.cancel(args.id)])
    return DONE


def tasks(args: argparse.Namespace, out: Output) -> int:
    """List tasks."""
    with connect(args, out) as client:
        document = client.tasks(query_of(args), limit=args.limit)
    _tell_missing(document, out)
    if why := document.get("incomplete"):
        out.notice(f"warning: some of the history is missing: {why}")
    out.listing(document, "tasks", TASK_COLUMNS)
    return DONE


def query_of(args: argparse.Namespace) -> Document:
    """Return what the options ask for, of tasks or of the history."""
    return {name: value for name in FILTERS if (value := getattr(args, name)) not in {None, ""}}


def _tell_missing(document: Document, out: Output) -> None:
    if regions := document.get("missing_regions"):
        names = ", ".join(map(str, regions))
        out.notice(f"warning: the tasks of these regions are missing, their server is away: {names}")


def nodes(args: argparse.Namespace, out: Output) -> int:
    """List the caches."""
    with connect(args, out) as client:
        document = client.nodes(leaves=args.leaves)
    out.listing(document, "nodes", NODE_COLUMNS)
    if not out.as_json:
        if args.leaves:
            out.rows("leaf", LEAF_COLUMNS, document.get("leaves", ()))
        elif out.is_rich:
            out.rows("leaves", REGION_COLUMNS, regions_of(document["nodes"]))
    return DONE


def forget(args: argparse.Namespace, out: Output) -> int:
    """Fail what waits for a cache that is not configured any more."""
    with connect(args, out) as client:
        out.mapping(client.forget(args.node))
    return DONE


def pause(args: argparse.Namespace, out: Output) -> int:
    """Have what is for a cache wait until it is resumed."""
    with connect(args, out) as client:
        out.mapping(client.pause(args.node))
    return DONE


def resume(args: argparse.Namespace, out: Output) -> int:
    """Deliver what waits for a cache that was paused."""
    with connect(args, out) as client:
        out.mapping(client.resume(args.node))
    return DONE


def cluster(args: argparse.Namespace, out: Output) -> int:
    """List the engines of one Redis."""
    with connect(args, out) as client:
        document = client.cluster()
    if document["mode"] == "embedded":
        out.notice("this engine has a store of its own (store.url is sqlite:); there is no cluster")
        if not out.as_json:
            return DONE
    _tell_missing(document, out)
    for text in document.get("warnings", ()):
        out.notice(f"warning: {text}")
    out.listing(document, "engines", ENGINE_COLUMNS)
    return DONE


def stats(args: argparse.Namespace, out: Output) -> int:
    """Show the queues and rates."""
    with connect(args, out) as client:
        out.mapping(client.stats())
    return DONE


def version(args: argparse.Namespace, out: Output) -> int:
    """Show the versions of this command and of the engine; without an engine the exit code says so."""
    own = {
        "version": __version__,
        "revision": __revision__,
        "built_at": __built_at__,
        "compiled": form.is_compiled(),
    }
    args.timeout = args.timeout or VERSION_TIMEOUT_S
    with connect(args, out, busy_attempts=1) as client:
        try:
            document = client.version()
        except (UnreachableError, RefusedError) as exc:
            out.mapping({**own, "engine": None})
            return fail(out, exc)
    out.mapping({**own, "engine": document})
    return DONE
