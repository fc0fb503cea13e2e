"""What an operation says: progress lines, one answer, and refusals that people and programs understand."""

from __future__ import annotations

import contextlib
import errno
import json
import os

from .redact import redact

TYPE_CHECKING = False  # importing typing takes as long as a small operation
if TYPE_CHECKING:
    from typing import Any

TAIL_LINES = 20  #: of a log, that go into an answer


class Refused(Exception):  # noqa: N818 - the operation's word for it
    """The operation is not done.

    Args:
        kind: a word for programs.
        text: one sentence for people.
        log: last lines that tell more.
    """

    def __init__(self, kind: str, text: str, log: list[str] | None = None) -> None:
        super().__init__(text)
        self.kind = kind
        self.log = log or []


def tell(event: str, **facts: object) -> None:
    """Write one line of progress."""
    write({"event": event, **facts})


def write(line: dict[str, Any]) -> None:
    """Write one line without secrets; an asker that is gone ends nothing, the work goes on to its end."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(redact(line)).encode() + b"\n")


def refuse(refused: Refused) -> int:
    """Write the answer of an operation that is not done; return the exit code."""
    write({"ok": False, "kind": refused.kind, "error": str(refused), "log": refused.log})
    return 2 if refused.kind == "input" else 1


def explain(exc: OSError) -> Refused:
    """Return what an error of the system means to an operator."""
    where = f" ({exc.filename})" if exc.filename else ""
    if exc.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Refused("disk", f"the disk is full{where}; make room and run it again")
    if exc.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return Refused("permission", f"{exc.strerror}{where}; run it as the owner of the folder")
    return Refused("system", f"{exc.strerror or exc}{where}")
