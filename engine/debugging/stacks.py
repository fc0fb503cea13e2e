"""Where threads and coroutines are, as text: function, file and line."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import CodeType, FrameType

DEPTH_MAX: Final = 100  #: frames of a stack that are shown, the innermost ones


def frames() -> dict[int, FrameType]:
    """Return where each thread is, by its `threading.get_ident`."""
    return sys._current_frames()  # noqa: SLF001 - documented, for debuggers


@lru_cache(4096)
def file_of(name: str) -> str:
    """Return the name of a file below the folder that Python imports it from."""
    for root in sorted(filter(None, sys.path), key=len, reverse=True):
        if name.startswith(f"{root}/"):
            return name[len(root) + 1 :]
    return name


def place(code: CodeType, line: int | None) -> str:
    """Return a place, as ``Node.answered (engine/nodes/node.py:215)``."""
    return f"{code.co_qualname} ({file_of(code.co_filename)}:{line or code.co_firstlineno})"


def stack_of(frame: FrameType | None) -> list[str]:
    """Return the places of a stack, the outermost first."""
    places: list[str] = []
    while frame is not None and len(places) < DEPTH_MAX:
        places.append(place(frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return places[::-1]


def chain_of(awaitable: Any) -> list[str]:
    """Return the places where coroutines wait for each other, the outermost first.

    Compiled ones have no frame: their names stand alone.
    """
    places: list[str] = []
    while awaitable is not None and len(places) < DEPTH_MAX:
        for kind, following in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
            if hasattr(awaitable, following):
                frame = getattr(awaitable, f"{kind}_frame", None)
                if frame is not None:
                    places.append(place(frame.f_code, frame.f_lineno))
                awaitable = getattr(awaitable, following)
                break
        else:
            name = getattr(awaitable, "__qualname__", "")
            return [*places, f"{name} (compiled)"] if name else places
    return places
