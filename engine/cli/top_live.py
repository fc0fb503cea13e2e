"""The loop of ``purgeline top``: look, draw, wait for a key, a new size of the terminal, or the next look."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty
from typing import TYPE_CHECKING, Final

from engine.cli.looks import Look, looked
from engine.cli.top_screen import drawn, page_of
from engine.client.errors import RefusedError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.cli.client import EngineClient

EVERY_S: Final = 1.0
_STEPS: Final = {"k": -1, "j": 1, "\x1b[A": -1, "\x1b[B": 1, "\x1bOA": -1, "\x1bOB": 1}
_PAGES: Final = {"\x1b[5~": -1, "\x1b[6~": 1}


def show(client: EngineClient) -> None:
    """Show the engine of *client* until q is pressed.

    Raises:
        RefusedError: the engine does not show its nodes or tasks.
    """
    from rich.console import Console  # noqa: PLC0415 - an extra
    from rich.live import Live  # noqa: PLC0415 - as above

    console = Console(highlight=False, markup=False)
    look, is_paused, first, due = Look(), False, 0, 0.0
    with _keys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            if not is_paused and time.monotonic() >= due:
                look = _next(client, look)
                due = time.monotonic() + EVERY_S
            first = max(0, min(first, len(look.nodes) - 1))
            live.update(drawn(look, console.size, first=first, is_paused=is_paused), refresh=True)
            key = keys.pressed(None if is_paused else max(0.0, due - time.monotonic()))
            if key == "q":
                return
            is_paused ^= key == "p"
            first += _STEPS.get(key, 0) + _PAGES.get(key, 0) * page_of(look, console.size)


def _next(client: EngineClient, before: Look) -> Look:
    """Look at the engine; while it is away, what was seen before stays.

    Raises:
        RefusedError: the engine does not show it.
    """
    try:
        return looked(client, before, time.time())
    except (UnreachableError, RefusedError) as exc:
        if isinstance(exc, RefusedError) and not exc.is_busy:
            raise
        return before.missed(str(exc))


class _Keys:
    """Keys as they are pressed, and changes of the terminal's size, which are keys without a name."""

    def __init__(self, terminal: int, resized: int) -> None:
        self._terminal = terminal
        self._resized = resized

    def pressed(self, timeout_s: float | None) -> str:
        """Wait for a key, a new size or the time; return the key, or nothing."""
        ready = select.select([self._terminal, self._resized], [], [], timeout_s)[0]
        if self._resized in ready:
            os.read(self._resized, 1024)
        if self._terminal not in ready:
            return ""
        read = os.read(self._terminal, 16).decode("ascii", "replace")
        return read or "q"  # the terminal is gone


@contextlib.contextmanager
def _keys() -> Iterator[_Keys]:
    """Have keys come one by one, and what was before when it is over."""
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    resized, tell = os.pipe()
    os.set_blocking(tell, False)
    # The byte comes from the C handler: one of Python runs only when `select` has been interrupted, which
    # a signal just before it does not do.
    was_told = signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    was_handled = signal.signal(signal.SIGWINCH, lambda *_: None)
    try:
        tty.setcbreak(terminal)
        yield _Keys(terminal, resized)
    finally:
        signal.signal(signal.SIGWINCH, was_handled)
        signal.set_wakeup_fd(was_told)
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        os.close(resized)
        os.close(tell)
