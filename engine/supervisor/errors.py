"""What can go wrong, and the exit codes of the process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE: Final = 2  #: exit code: wrong arguments, configuration or surroundings
FAILED: Final = 1
INTERRUPTED: Final = 130


class SupervisorError(Exception):
    """The supervisor cannot run, or cannot do what a client asked for; the text says why.

    Args:
        exit_code: of the process when this ends it.
    """

    def __init__(self, text: str, *, exit_code: int = FAILED) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class StageError(Exception):
    """A reload, or the start of a worker, failed.

    Args:
        stage: ``start``, ``ready``, ``version``, ``go`` or ``bake``.
        log: last lines of the worker that was at fault.
    """

    def __init__(
        self, stage: str, text: str, *, log: Sequence[str] = (), exit_code: int | None = None
    ) -> None:
        super().__init__(text)
        self.stage = stage
        self.log = list(log)
        self.exit_code = exit_code  #: of the worker, if it ended
