"""Ctrl-C, SIGTERM and a closed terminal during a run on hosts.

The first one asks: steps under way are finished, which takes seconds, no new ones are begun. The second one
stops at once, and may leave hosts locked; the next run explains that. A terminal that is closed (SIGHUP)
stops nothing: the run goes on to its end, and the histories tell of it. Only the main thread may use this.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """A context in which signals ask before they end anything.

    Args:
        say: takes a sentence for a person.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._before: dict[int, object] = {}
        self.asked = ""  #: name of the signal that came first

    def __enter__(self) -> Self:
        for number in (*_SIGNALS, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
                # A handler that does nothing, other than SIG_IGN, is not inherited by what is started.
                handler = self._take if number in _SIGNALS else _go_on
                self._before[number] = signal.signal(number, handler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type] # as it came

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = signal.Signals(number).name
        self._say("interrupted: the steps under way are finished first; once more stops at once")


def _go_on(_number: int, _frame: FrameType | None) -> None:
    """Do nothing."""
