"""The event loop of an engine: uvloop's where that is installed, else asyncio's own.

uvloop is the extra ``purgeline[fast]``, 14 MB of the disk; releases that are deployed have it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

try:
    import uvloop
except ImportError as exc:
    _name, _why, _new = "asyncio", str(exc), asyncio.new_event_loop
else:
    _name, _why, _new = "uvloop", "", uvloop.new_event_loop

NAME: Final[str] = _name
"""Whose loop it is: ``uvloop`` or ``asyncio``."""
WHY_NOT_UVLOOP: Final[str] = _why
"""What was raised by the import; empty with uvloop."""
new_event_loop: Final[Callable[[], asyncio.AbstractEventLoop]] = _new
