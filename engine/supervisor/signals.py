"""The signals that the main thread acts on, and when they may not come."""

from __future__ import annotations

import os
import signal
from typing import Final

_OURS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


def hold() -> None:
    """Keep the signals of the supervisor from this thread; they wait, or go to another one."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _OURS)


def hang_up_again() -> None:
    """Let SIGHUP come once more, while signals are held: for the code that lets them through."""
    os.kill(os.getpid(), signal.SIGHUP)


def let_through() -> None:
    """Let the signals come, those that have waited first."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OURS)
