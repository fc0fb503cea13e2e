"""``history.jsonl``: what was done on this host, and which versions it served in which order.

At `BYTES_MAX` the file becomes ``history.jsonl.1``, in place of the one before, and begins again with what a
rollback and `prune` need of it and with the last entries.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time

from .answers import explain, tell
from .files import sync_folder, write_whole
from .redact import redact

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from .layout import Host

WAYS_BACK = {"rollback", "auto-rollback"}
BYTES_MAX = 1024 * 1024
KEPT_BYTES = BYTES_MAX // 4  #: of the last entries stay when the file begins again
VERSIONS_MAX = 200  #: of these the order in which they served stays


def append(host: Host, /, **entry: object) -> None:
    """Add a line to the history, all of it or nothing; a torn last line of a crash is ended first."""
    line = json.dumps(redact({"at": time.time(), **entry})).encode() + b"\n"
    descriptor = locked(host)
    try:
        size = os.fstat(descriptor).st_size
        if size > BYTES_MAX:
            with contextlib.suppress(OSError):  # then it grows a little more
                begin_again(host)
                os.close(descriptor)
                descriptor = locked(host)
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


def locked(host: Host) -> int:
    """Open the history, locked; return its descriptor."""
    path = host.root / "history.jsonl"
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)  # whoever had it locked has begun it again


def begin_again(host: Host) -> None:
    """Keep of the history what is needed and the last entries; the whole of it is ``history.jsonl.1``."""
    path = host.root / "history.jsonl"
    entries = entries_of(host)
    count, room = 0, KEPT_BYTES
    while count < len(entries) and room > 0:
        count += 1
        room -= len(json.dumps(entries[-count]))
    kept = [*needed(entries[:-count], host.unpacked()), *entries[-count:]]
    before = path.with_name(f".{path.name}.1.new-{os.getpid()}")
    before.unlink(missing_ok=True)
    os.link(path, before)
    before.replace(path.with_name(f"{path.name}.1"))
    write_whole(path, "".join(f"{json.dumps(entry)}\n" for entry in kept).encode())


def needed(entries: list[dict[str, Any]], here: list[str]) -> list[dict[str, Any]]:
    """Return what is still needed of entries, in their order.

    That is the last moves that led to where a host is, and the last try of each version that is *here*.
    """
    order = served(entries)[-VERSIONS_MAX:]
    last: dict[tuple[str, bool], int] = {}
    for number, entry in enumerate(entries):
        version = str(entry.get("version"))
        if _is_move(entry) and version in order:
            last[version, True] = number
        elif version in here and entry.get("action") in {"reload", *WAYS_BACK}:
            last[version, False] = number
    return [entries[number] for number in sorted(last.values())]


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
