"""Operations on one installation: which there are, what each needs, and how it is answered."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

from . import requests
from .answers import Refused, explain, refuse, write
from .files import holding
from .layout import Host

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from typing import Any

CHANGING_WAIT_S = 15.0
OP_LOCK, LOCK_LOCK = ".op.lock", ".lock.lock"

#: Operation → module and function that do it, what it needs of the request, and the lock file that keeps it
#: from meeting others. Modules are loaded by the operation that needs them: nothing here is kept compiled.
OPERATIONS: dict[str, tuple[str, str, tuple[str, ...], str]] = {
    "facts": ("facts", "facts", (), ""),
    "look": ("facts", "look", (), ""),
    "unpack": (
        *("unpack", "unpack"),
        ("file", "sha256", "size", "version", "envelope", "trusted_keys"),
        OP_LOCK,
    ),
    "reload": ("reload", "reload", ("version",), OP_LOCK),
    "shadow": ("shadow", "shadow", ("file", "version", "was", "requests", "slice", "slices"), OP_LOCK),
    "stop": ("stop", "stop", (), OP_LOCK),
    "prune": ("prune", "prune", ("keep",), OP_LOCK),
    "status": ("status", "status", (), ""),
    "history": ("history", "show", (), ""),
    "append": ("history", "add", ("entry",), ""),
    "lock": ("lock", "lock", ("token", "ttl_s"), LOCK_LOCK),
    "heartbeat": ("lock", "heartbeat", ("token",), LOCK_LOCK),
    "unlock": ("lock", "unlock", (), LOCK_LOCK),
    "verify": ("verify", "verify", ("version",), ""),
    "doctor": ("doctor", "doctor", (), ""),
    "previous": ("previous", "previous", (), ""),
}


def main(argv: list[str]) -> int:
    """Do the operation that the arguments name; return the exit code."""
    if len(argv) != 1 or argv[0] not in OPERATIONS:
        return refuse(Refused("input", f"takes one of {' '.join(OPERATIONS)}, not {' '.join(argv)!r}"))
    os.umask(0o022)
    try:
        request = json.loads(sys.stdin.buffer.read() or b"{}")
    except ValueError as exc:
        request = f"it is not JSON: {exc}"
    if not isinstance(request, dict):
        return refuse(Refused("input", f"standard input takes a JSON object, {request!r}"))
    try:
        answer = perform(argv[0], request)
    except Refused as exc:
        return refuse(exc)
    except OSError as exc:
        return refuse(explain(exc))
    except Exception as exc:  # noqa: BLE001 - whoever asked gets a sentence, not a traceback
        return refuse(Refused("internal", f"{argv[0]}: {type(exc).__name__}: {exc}"))
    write({"ok": True, **answer})
    return 0


def perform(op: str, request: dict[str, Any]) -> dict[str, Any]:
    """Do one operation and return its answer."""
    module, name, needed, guard = OPERATIONS[op]
    requests.check(op, request, needed)
    root = Path(request["root"])
    if not root.is_absolute():
        raise Refused("input", f"root: takes an absolute path, not {str(root)!r}")
    function = getattr(importlib.import_module(f".{module}", __package__), name)
    host = Host(root)
    if not guard:
        return function(host, request)  # type: ignore[no-any-return]
    host.make()
    busy = Refused("busy", "another operation is under way on this host; try again when it is over")
    with holding(host.root / guard, wait_s=CHANGING_WAIT_S, refusal=busy):
        if guard == OP_LOCK:
            lock = importlib.import_module(".lock", __package__)
            if request.get("token"):
                lock.need_lock(host, request["token"])
            else:
                lock.refuse_locked(host)
        answer = function(host, request)
    if request.get("unlock"):  # the last operation of a run gives its lock back
        perform("unlock", {"root": request["root"], "token": request.get("token")})
    return answer  # type: ignore[no-any-return]
