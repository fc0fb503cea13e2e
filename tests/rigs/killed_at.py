"""Runs a function in forked processes that die by SIGKILL: before each of its steps on a disk.

A step is a call of `os` that changes something. What a killed process did not sync is in the page cache: this
shows the order of steps, not a loss of power.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_STEPS = ("open", "write", "fsync", "rename", "unlink", "close", "mkdir")


def killed_at_each_step(function: Callable[[], object]) -> Iterator[int]:
    """Yield the number of each step, when a process was killed in front of it; ends when one came through."""
    for number in range(1, 1000):
        process = os.fork()
        if process == 0:
            _run(function, number)
        _, status = os.waitpid(process, 0)
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 0, "the function has failed"
            return
        yield number
    raise AssertionError("the function never ends")


def _run(function: Callable[[], object], number: int) -> None:
    left = number

    def counting(name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def step(*args: object, **options: object) -> object:
            nonlocal left
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **options)

        return step

    code = 1
    try:
        for name in _STEPS:
            setattr(os, name, counting(name))
        function()
        code = 0
    finally:
        os._exit(code)
