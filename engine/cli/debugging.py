"""``purgeline debug``: looks into a running engine, and shows what it sees."""

from __future__ import annotations

import contextlib
import http.client
import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

from engine.cli import debug_shown, profile_formats
from engine.cli.connect import connect
from engine.cli.exits import DONE, FAILED, UsageError
from engine.cli.stream_client import StreamConnection
from engine.cli.values import TIMEOUT_S
from engine.client.address import addresses_of, token_of
from engine.client.errors import UnreachableError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from engine.cli.screen import Output
    from engine.client.bodies import Document

    Show = Callable[[Document, Output], None]

_BASE: Final = "/v1/engine/debug"
_GATHERING_S: Final = 20.0  #: that an engine may take beyond the time that is asked for


def threads(args: argparse.Namespace, out: Output) -> int:
    """Show the threads."""
    return _look(args, out, ("threads",), debug_shown.threads)


def tasks(args: argparse.Namespace, out: Output) -> int:
    """Show the tasks of the loops."""
    return _look(args, out, ("tasks",), debug_shown.tasks)


def gc(args: argparse.Namespace, out: Output) -> int:
    """Show the garbage collectors, or each of their passes."""
    if args.trace:
        return _trace(args, out)
    return _look(args, out, ("gc",), debug_shown.gc, seconds=args.seconds)


def loop(args: argparse.Namespace, out: Output) -> int:
    """Show the loops."""
    return _look(args, out, ("loop",), debug_shown.loop, seconds=args.seconds, threshold_ms=args.threshold)


def profile(args: argparse.Namespace, out: Output) -> int:
    """Sample the threads, and show or write where they are."""
    file: Path | None = args.output_file
    if file is not None:
        _check_writable(file)
    document = _ask(args, out, ("profile",), seconds=args.seconds, rate=args.rate)
    text = json.dumps(document) + "\n" if out.as_json else _PROFILES[args.format](document)
    if file is not None:
        file.write_text(text, encoding="utf-8")
    if file is None and (out.as_json or args.format != "text"):
        out.text(text)
    elif not out.as_json:
        debug_shown.profile(document, out)
        if file is None:
            out.text(text)
        else:
            out.notice(f"the profile is in {file}")
    return _tell_troubles(document, out)


def _check_writable(file: Path) -> None:
    """Find out before the profile whether it can be written; what is there stays until then.

    Raises:
        OSError: it cannot.
    """
    is_new = not file.exists()
    with file.open("a"):
        pass
    if is_new:
        file.unlink()


def heap(args: argparse.Namespace, out: Output) -> int:
    """Show what is in memory."""
    query: dict[str, object] = {"seconds": args.seconds or 0, "top": args.top}
    return _look(args, out, ("heap",), debug_shown.heap, **query, **({"trace": "true"} if args.trace else {}))


def wire(args: argparse.Namespace, out: Output) -> int:
    """Show what passes between the workers and a node."""
    parts = ("nodes", args.node, "wire")
    return _look(args, out, parts, debug_shown.wire, seconds=args.seconds, count=args.count)


def task(args: argparse.Namespace, out: Output) -> int:
    """Show all that is known of a task."""
    return _look(args, out, ("task", args.id), debug_shown.task)


_PROFILES: Final = {
    "text": profile_formats.text,
    "speedscope": profile_formats.speedscope,
    "collapsed": profile_formats.collapsed,
}


def _look(args: argparse.Namespace, out: Output, parts: tuple[str, ...], show: Show, **query: object) -> int:
    """Ask for a look, wait for it, and show it."""
    document = _ask(args, out, parts, **query)
    if out.as_json:
        out.json(document)
    else:
        show(document, out)
    return _tell_troubles(document, out)


def _ask(args: argparse.Namespace, out: Output, parts: tuple[str, ...], **query: object) -> Document:
    args.timeout = (args.timeout or TIMEOUT_S) + _GATHERING_S + float(str(query.get("seconds", 0)))
    with connect(args, out, busy_attempts=1) as client:
        return client.with_rows("workers", "GET", _path(args, parts, query))


def _path(args: argparse.Namespace, parts: tuple[str, ...], query: dict[str, object]) -> str:
    path = "/".join((_BASE, *(quote(part, safe="") for part in parts)))
    asked = {name: value for name, value in {**query, "worker": args.worker}.items() if value is not None}
    return f"{path}?{urlencode(asked)}" if asked else path


def _tell_troubles(document: Document, out: Output) -> int:
    troubles = document.get("troubles") or []
    for trouble in troubles:
        out.notice(f"worker {trouble.get('worker')} is not shown: {trouble.get('why')}")
    return FAILED if troubles else DONE


def _trace(args: argparse.Namespace, out: Output) -> int:
    code = DONE
    with contextlib.closing(_stream_connection(args)) as client, contextlib.suppress(KeyboardInterrupt):
        for document in _lines(client, _path(args, ("gc", "trace"), {"seconds": args.seconds})):
            if "why" in document:
                code = _tell_troubles({"troubles": [document]}, out)
            elif out.as_json:
                out.json(document)
            else:
                out.text(debug_shown.gc_pass(document))
    return code


def _lines(client: StreamConnection, path: str) -> Iterator[Any]:
    try:
        with client.stream(path) as stream:
            for line in stream:
                yield json.loads(line)
    except (http.client.HTTPException, OSError, ValueError) as exc:
        raise UnreachableError(path, f"the connection broke: {exc}", sent=True) from exc


def _stream_connection(args: argparse.Namespace) -> StreamConnection:
    try:
        addresses, token = addresses_of(args.engine), token_of(args.token)
    except ValueError as exc:
        raise UsageError(f"--engine or --token: {exc}") from exc
    if len(addresses) > 1:
        raise UsageError(f"--engine: one engine is looked into at a time, not {len(addresses)}")
    return StreamConnection(addresses[0], token, (args.timeout or TIMEOUT_S) + args.seconds)
