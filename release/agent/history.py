"""``history.jsonl``: what was done on this host, and which versions it served in which order."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time

from .answers import explain, tell
from .files import sync_folder
from .redact import redact

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from .layout import Host

WAYS_BACK = {"rollback", "auto-rollback"}


def append(host: Host, /, **entry: object) -> None:
    """Add a line to the history, all of it or nothing; a torn last line of a crash is ended first."""
    line = json.dumps(redact({"at": time.time(), **entry})).encode() + b"\n"
    descriptor = os.open(host.root / "history.jsonl", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        try:
            while line:
                line = line[os.write(descriptor, line) :]
            os.fsync(descriptor)
            if not size:
                sync_folder(host.root)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def note(host: Host, /, **entry: object) -> None:
    """Add what was done to the history. If that fails, what was done is done: it is told, not undone."""
    try:
        append(host, **entry)
    except OSError as exc:
        tell("warning", message=f"the history lacks this {entry.get('action')}: {explain(exc)}")


def entries_of(host: Host) -> list[dict[str, Any]]:
    """Return the entries, oldest first; lines that are no JSON object are passed over."""
    entries = []
    with contextlib.suppress(FileNotFoundError):
        for line in (host.root / "history.jsonl").read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict):
                    entries.append(entry)
    return entries


def _is_move(entry: dict[str, Any]) -> bool:
    return entry.get("ok") is True and entry.get("action") in {"reload", *WAYS_BACK}


def served(entries: Iterable[dict[str, Any]]) -> list[str]:
    """Return the versions that a host came to serve and kept, the oldest first, each once.

    A way back takes out what it left and what came after its target: going back again leads further back.
    """
    order: list[str] = []
    for entry in entries:
        version, action = str(entry.get("version")), entry.get("action")
        if not _is_move(entry):
            continue
        if action in WAYS_BACK:
            if version in order:
                del order[order.index(version) + 1 :]
            order = [name for name in order if name != entry.get("from")]
        order = [*(name for name in order if name != version), version]
    return order


def served_here(host: Host) -> list[str]:
    """Return what `served` does, without versions of which other bytes are here than those that served."""
    entries, digests = entries_of(host), host.digests()
    last = {str(entry.get("version")): str(entry.get("sha256") or "") for entry in entries if _is_move(entry)}
    return [
        version
        for version in served(entries)
        if version in digests and last[version] in {"", digests[version]}  # an older entry says nothing
    ]


def show(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Return the last entries."""
    return {"entries": entries_of(host)[-int(request.get("limit") or 50) :]}


def add(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Add an entry of the controller's."""
    host.make()
    append(host, **request["entry"])
    return {}
