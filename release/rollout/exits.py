"""Exit codes of the tasks that work on hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from release.errors import (
    ArtefactError,
    LockedError,
    ReleaseError,
    RepositoryError,
    SettingsError,
    VersionError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from release.hosts.remote import Outcome

DONE: Final = 0
FAILED: Final = 1  #: something failed; a deploy is rolled back then
USAGE: Final = 2  #: settings, inventory or arguments
GATE: Final = 3  #: hosts that cannot be reached, or a reason not to begin; nothing was changed
LOCKED: Final = 4  #: somebody else is at work, or took the lock away
INTERRUPTED: Final = 130


class GateError(ReleaseError):
    """There is a reason not to begin; nothing was changed."""


def code_of(exc: ReleaseError) -> int:
    """Return the exit code of an error that came before anything was changed."""
    match exc:
        case SettingsError():
            return USAGE
        case LockedError():
            return LOCKED
        case GateError() | RepositoryError() | VersionError() | ArtefactError():
            return GATE
        case _:
            return FAILED


def code_of_outcomes(failed: Sequence[Outcome]) -> int:
    """Return the exit code for outcomes that are not ok; none: all is well."""
    if any(not outcome.is_answered for outcome in failed):
        return GATE
    if any(outcome.kind == "locked" for outcome in failed):
        return LOCKED
    return FAILED if failed else DONE
