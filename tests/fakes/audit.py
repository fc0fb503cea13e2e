"""An audit whose lines are kept."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from engine.observe.audit import Audit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.observe.audit_line import AuditLine


class Lines:
    """Stands where the log would be."""

    service = "purgeline/1"

    def __init__(self) -> None:
        self.lines: list[AuditLine] = []

    def write(self, lines: Sequence[Any]) -> None:
        self.lines += lines


def audit_of(lines: Lines | None = None) -> Audit:
    """Return an audit that writes to *lines*, with the loop that runs; without them one that is off."""
    loop: Any = None if lines is None else asyncio.get_running_loop()
    return Audit(lines or Lines(), loop, is_on=lines is not None)
