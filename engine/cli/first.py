"""``purgeline init``: a first engine.toml, of what a terminal is asked or options say; never over a file."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final

from engine.cli.exits import DONE, FAILED, UsageError
from engine.cli.meant import did_you_mean
from engine.cli.preview import is_terminal
from engine.errors import ConfigError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from engine.cli.screen import Output

PLACES: Final = {
    "varnish": "http://127.0.0.1:6081",
    "nginx": "http://127.0.0.1:80",
    "ats": "http://127.0.0.1:8080",
    "squid": "http://127.0.0.1:3128",
}
"""Where each kind of cache listens unless it is told otherwise."""
Cache = tuple[str, str]  #: driver, URL


def init(args: argparse.Namespace, out: Output) -> int:
    """Write the file."""
    _check_free(args)
    caches: list[Cache] = args.caches
    sites: list[str] = args.sites
    if not args.yes and not out.as_json and is_terminal():
        caches = caches or _asked_caches(out)
        sites = sites or _asked_sites()
    text = _text(args, caches, sites)
    try:
        with args.file.open("x", encoding="utf-8") as made:
            made.write(text)
    except FileExistsError:
        _check_free(args)
        raise
    except OSError as exc:
        return out.error(f"{args.file}: cannot be written: {exc}", exit_code=FAILED)
    if out.as_json:
        out.json({"file": str(args.file), "nodes": len(caches), "sites": sites})
        return DONE
    out.text(f"{args.file}\n")
    for line in _next_steps(str(args.file), caches):
        out.notice(line)
    return DONE


def _check_free(args: argparse.Namespace) -> None:
    if args.file.exists() or args.file.is_symlink():
        raise UsageError(f"{args.file} is there already; nothing was written")


def _text(args: argparse.Namespace, caches: Sequence[Cache], sites: Sequence[str]) -> str:
    """Return the text of the file, which an engine takes.

    Raises:
        UsageError: it would not; the text says which value is wrong.
    """
    import tomllib  # noqa: PLC0415 - only this command needs them

    from engine.base.templates import render  # noqa: PLC0415 - as above
    from engine.config.load import parse  # noqa: PLC0415 - as above

    nodes = [
        {"name": _quoted(f"{driver}-{number}"), "driver": _quoted(driver), "url": _quoted(url)}
        for number, (driver, url) in enumerate(caches, start=1)
    ]
    text = render("first.toml.j2", file=args.file.name, nodes=nodes, sites=list(map(_quoted, sites)))
    try:
        parse(tomllib.loads(text))
    except ConfigError as exc:
        raise UsageError(f"{exc}; nothing was written") from exc
    return text


def _quoted(text: str) -> str:
    """Return *text* as a string of TOML, whose escapes are those of JSON."""
    return json.dumps(text)


def _next_steps(file: str, caches: Sequence[Cache]) -> list[str]:
    if not caches:
        return [f"it has no cache yet: take the # from its [[node]], then purgeline serve --config {file}"]
    lines = [
        f"what a {driver} needs: purgeline render {driver} --config {file}" for driver in _drivers(caches)
    ]
    return [
        *lines,
        f"whether each cache answers: purgeline check-nodes --config {file}",
        f"then: purgeline serve --config {file}",
    ]


def _drivers(caches: Sequence[Cache]) -> list[str]:
    return list(dict.fromkeys(driver for driver, _ in caches))


def _asked_caches(out: Output) -> list[Cache]:
    """Ask for caches, one after the other, until the answer is empty."""
    caches: list[Cache] = []
    known = ", ".join(PLACES)
    while True:
        driver = _ask(f"Kind of {'the next' if caches else 'a'} cache ({known}; empty: no more): ")
        if not driver:
            return caches
        if driver not in PLACES:
            out.notice(f"there is no {driver!r}{did_you_mean(driver, PLACES) or f'; known: {known}'}")
            continue
        caches.append((driver, _ask(f"Where it listens [{PLACES[driver]}]: ") or PLACES[driver]))


def _asked_sites() -> list[str]:
    text = _ask("Hosts that may be purged, such as *.example.com, between spaces (empty: all): ")
    return text.split()


def _ask(question: str) -> str:
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip()
