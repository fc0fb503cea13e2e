"""``purgeline cdni``: has another CDN purge, invalidate or fetch ahead, and looks at what came of it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from engine.cli.cdni_client import GOOD, SETTLED, CdniClient
from engine.cli.exits import DONE, FAILED, INTERRUPTED, UsageError, fail
from engine.cli.values import TIMEOUT_S
from engine.cli.waiting import TOLD_EVERY_S, TOLD_FIRST_S
from engine.client.address import token_of
from engine.client.errors import RefusedError, UnreachableError

if TYPE_CHECKING:
    import argparse
    import ssl
    from collections.abc import Callable

    from engine.cli.screen import Output
    from engine.client.bodies import Document

TYPES = ("purge", "invalidate", "preposition")
WORDS = (*TYPES, "status", "cancel", "delete", "list")
COLLECTIONS = ("all", "pending", "active", "complete", "failed")
_ERROR_COLUMNS = ("error", "description", "about")
_LISTS = ("content.urls", "content.patterns", "content.ccid", "metadata.urls", "metadata.patterns")


def cdni(args: argparse.Namespace, out: Output) -> int:
    """Do what the word says."""
    with _connect(args, out) as client:
        if args.word in TYPES:
            return _create(client, args, out)
        if args.word == "list":
            return _list(client, args, out)
        if not args.targets:
            raise UsageError(f"{args.word}: takes the URL of a trigger, as `list` and the answers show it")
        if args.word == "status":
            return max(_show(out, url, client.status(url)) for url in args.targets)
        if args.word == "cancel":
            is_over = client.cancel_all(args.targets, _path(args))
            out.notice("cancelled" if is_over else "accepted: it is cancelled soon, see its status")
        else:
            for url in args.targets:
                client.delete(url)
    return DONE


def _create(client: CdniClient, args: argparse.Namespace, out: Output) -> int:
    trigger: Document = {"type": args.word}
    lists = {
        "content.urls": args.targets,
        "content.patterns": [_pattern(text, args) for text in args.pattern],
        "content.ccid": args.ccid,
        "metadata.urls": args.metadata_url,
        "metadata.patterns": [_pattern(text, args) for text in args.metadata_pattern],
    }
    trigger |= {name: values for name, values in lists.items() if values}
    if len(trigger) == 1:
        raise UsageError(f"{args.word}: takes URLs, --pattern, --ccid, --metadata-url or --metadata-pattern")
    url, document = client.create(trigger, _path(args))
    if args.wait:
        look = f"purgeline cdni status {url} says what becomes of it"
        try:
            document = client.wait(url, _Pulse(out.notice, url), out.interim)
        except KeyboardInterrupt:
            return out.error(f"interrupted; {look}", exit_code=INTERRUPTED)
        except (UnreachableError, RefusedError) as exc:
            return fail(out, exc, f"{exc}; {look}")
    return _show(out, url, document)


class _Pulse:
    """Says now and then that a trigger is waited for.

    Args:
        say: is given a line.
        url: of the trigger.
    """

    def __init__(self, say: Callable[[str], None], url: str) -> None:
        self._say = say
        self._url = url
        self._began = time.monotonic()
        self._due = self._began + TOLD_FIRST_S

    def __call__(self, document: Document) -> None:
        """Take its status as it is now."""
        now = time.monotonic()
        if now >= self._due and document["status"] not in SETTLED:
            self._due = now + TOLD_EVERY_S
            self._say(f"waiting for {self._url} ({now - self._began:.0f} s): {document['status']}")


def _list(client: CdniClient, args: argparse.Namespace, out: Output) -> int:
    document = client.collection(args.collection)
    if out.as_json:
        out.json(document)
    else:
        out.text("".join(f"{url}\n" for url in document["triggers"]))
    return DONE


def _show(out: Output, url: str, document: Document) -> int:
    status = document["status"]
    if out.as_json:
        out.json({"url": url, **document})
    else:
        fields = {name: value for name, value in document.items() if name not in {"trigger", "errors"}}
        errors = [{**one, "about": _about(one)} for one in document.get("errors") or ()]
        shown = {"url": url, "type": document["trigger"].get("type"), **fields, "errors": errors}
        out.sections(shown, {"errors": ("error", _ERROR_COLUMNS)})
    is_bad = status not in GOOD and status in {"failed", "cancelled", "canceled"}
    return FAILED if is_bad else DONE


def _about(error: Document) -> str:
    """Return what an error is about, in one line."""
    values = [value for name in _LISTS for value in error.get(name) or ()]
    return " ".join(str(value.get("pattern")) if isinstance(value, dict) else str(value) for value in values)


def _pattern(text: str, args: argparse.Namespace) -> Document:
    made: Document = {"pattern": text}
    if args.case_sensitive:
        made["case-sensitive"] = True
    if args.match_query_string:
        made["match-query-string"] = True
    return made


def _path(args: argparse.Namespace) -> list[str]:
    """Return the CDNs that a command has come by: the last one is this one."""
    own = args.cdn_id or os.environ.get("PURGELINE_CDN_ID", "")
    if not own:
        raise UsageError("--cdn-id or $PURGELINE_CDN_ID is needed: the Provider ID of this CDN, as AS64496:1")
    if own in args.via:
        raise UsageError(f"--via: {own} is this CDN: the command has come round in a loop")
    return [*args.via, own]


def _connect(args: argparse.Namespace, out: Output) -> CdniClient:
    url = args.to or os.environ.get("PURGELINE_CDNI_URL", "")
    if not url:
        raise UsageError("--to or $PURGELINE_CDNI_URL is needed: the URL of the CDN's collection of triggers")
    try:
        return CdniClient(
            url.rstrip("/"),
            token=token_of(args.token),
            timeout_s=args.timeout or TIMEOUT_S,
            notice=out.notice,
            tls=_tls(args),
        )
    except ValueError as exc:
        raise UsageError(f"--to or --token: {exc}") from exc


def _tls(args: argparse.Namespace) -> ssl.SSLContext | None:
    """Return how a CDN is asked by https; None: as the system has it."""
    if not (args.ca or args.cert):
        return None
    import ssl  # noqa: PLC0415 - most commands do without

    try:
        context = ssl.create_default_context(cafile=args.ca)
        if args.cert:
            context.load_cert_chain(args.cert, args.key)
    except OSError as exc:
        raise UsageError(f"--ca, --cert or --key cannot be used: {exc}") from exc
    return context


def add_options(option: Callable[..., argparse.Action]) -> None:
    """Add what the command takes."""
    option("word", choices=WORDS, metavar="WORD", help=f"one of {', '.join(WORDS)}")
    option("targets", nargs="*", metavar="URL", help="of content; for status, cancel and delete of a trigger")
    option("--to", metavar="URL", help="the CDN's collection of triggers (default $PURGELINE_CDNI_URL)")
    option("--cdn-id", metavar="PID", help="the Provider ID of this CDN (default $PURGELINE_CDN_ID)")
    option(
        "--via",
        action="append",
        default=[],
        metavar="PID",
        help="a CDN that the command has come by before this one; may be repeated, the first one first",
    )
    for name, what in (
        ("pattern", "URLs that fit P, with * and ?"),
        ("ccid", "a collection of content"),
        ("metadata-url", "the URL of metadata"),
        ("metadata-pattern", "metadata whose URLs fit P"),
    ):
        letter = "P" if "pattern" in name else "C" if name == "ccid" else "URL"
        option(f"--{name}", action="append", default=[], metavar=letter, help=f"{what}; may be repeated")
    option("--case-sensitive", action="store_true", help="the letters of patterns count as they are")
    option("--match-query-string", action="store_true", help="patterns are for the query, too")
    option("--wait", action="store_true", help="wait until it has settled; the exit code tells how")
    option("--collection", choices=COLLECTIONS, default="all", metavar="C", help="list: only these triggers")
    option("--ca", metavar="F", help="https: authority of the CDN's certificate, PEM")
    option("--cert", metavar="F", help="https: own certificate, PEM")
    option("--key", metavar="F", help="https: its key, where that is another file")
