"""How a command ends: its exit code, and the line that says what went wrong."""

from __future__ import annotations

import sys

from engine.client.errors import BUSY, RefusedError, UnreachableError
from engine.errors import ConfigError, EngineError

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.cli.screen import Output
    from engine.client.bodies import Document

DONE, FAILED, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130  #: exit codes; the worst of several counts

IDS_SHOWN = 5  #: task ids that a hint names


class UsageError(EngineError):
    """The command line asks for what cannot be done; the text says what to change."""


def hint(ids: Sequence[str]) -> str:
    """Return how to go on looking at tasks after a command that was broken off."""
    shown = " ".join(ids[:IDS_SHOWN])
    more = f" (and {len(ids) - IDS_SHOWN} more: purgeline tasks)" if len(ids) > IDS_SHOWN else ""
    return f"what was accepted goes on in the engine; watch it: purgeline watch {shown}{more}"


def exit_code_of(document: Document) -> int:
    """Return the exit code for a task as *document* has it."""
    return FAILED if document["state"] in {"failed", "partial", "cancelled"} else DONE


def fail(out: Output, exc: Exception, text: str = "") -> int:
    """Say what went wrong in one line, and return its exit code."""
    match exc:
        case UnreachableError():
            return out.error(text or str(exc), exit_code=UNREACHABLE)
        case RefusedError(status=status):
            is_theirs = 400 <= status < 500  # noqa: PLR2004 - HTTP's client errors
            code = UNREACHABLE if status in BUSY else USAGE if is_theirs else FAILED
            return out.error(text or str(exc), exit_code=code, status=status)
        case UsageError() | ConfigError():
            return out.error(str(exc), exit_code=USAGE)
        case EngineError() | OSError():
            return out.error(str(exc), exit_code=FAILED)
        case _ if sys.flags.dev_mode:
            raise exc
        case _:
            return out.error(f"internal error: {type(exc).__name__}: {exc}", exit_code=FAILED)
