"""Self-replacement: another version of the supervisor goes on in the same process.

The successor is tried first: it must compile, and say that it understands the state that it will be given.
Between that and the execution signals wait, so that the one that gets them has handlers.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from . import signals
from .errors import SupervisorError
from .handover import UNDERSTOOD

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .control import Client
    from .handover import Handover
    from .options import Options
    from .output import Output
    from .phase import Phase


class Replacement:
    """Replaces the supervisor by a program that is named, by default by what it runs itself.

    Args:
        path: of the program that runs here.
        options: what the successor is started with.
        phase: knows whether something else is under way.
        output: is flushed before everything in memory ends.
        handover: returns the state as it is now; the client waits for the answer.
    """

    def __init__(
        self,
        path: Path,
        options: Options,
        *,
        phase: Phase,
        output: Output,
        handover: Callable[[Client], Handover],
    ) -> None:
        self._path = path
        self._options = options
        self._phase = phase
        self._output = output
        self._handover = handover

    async def answer(self, request: dict[str, Any], client: Client) -> None:
        """Become the program that the request names (``supervisor``); the successor answers then.

        Raises:
            SupervisorError: it cannot be; everything is as before.
        """
        self._phase.refuse_if_busy()
        named = request.get("supervisor")
        if not isinstance(named, str | None) or "\0" in (named or ""):
            raise SupervisorError(f"supervisor: takes a path, not {named!r}")
        path = (self._options.root or self._options.folder) / (named or self._path)
        with self._phase.replacing():
            try:
                await self._try(path, client)
                await client.tell({"event": "replacing", "supervisor": str(path)})
                await self._hold_signals()
                self._execute(path, client)
            finally:
                signals.let_through()

    async def _try(self, path: Path, client: Client) -> None:
        state = self._handover(client).write()
        try:
            await check_successor(path, self._options.argv(), state)
        finally:
            os.close(state)

    async def _hold_signals(self) -> None:
        """Keep new signals for the code after the replacement, and act on those that have come.

        Raises:
            SupervisorError: one of them was to stop.
        """
        signals.hold()
        for _ in range(3):  # turns of the loop: the pipe is read, the handlers are called
            await asyncio.sleep(0)
        if self._phase.is_stopping:
            raise SupervisorError("the supervisor is stopping")

    def _execute(self, path: Path, client: Client) -> None:
        """Become the other program.

        Raises:
            SupervisorError: the system refused it, and everything is as before.
        """
        self._output.flush(0.5)
        if self._phase.waiting is not None:
            signals.hang_up_again()
        handover = self._handover(client)
        state = handover.write()
        try:
            handover.share(True)
            arguments = [*self._options.argv(), "--handover", str(state)]
            os.execv(sys.executable, [sys.executable, "-I", str(path), *arguments])  # noqa: S606
        except OSError as exc:
            handover.share(False)
            os.close(state)
            raise SupervisorError(f"{path} cannot be executed: {exc}") from exc


async def check_successor(path: Path, argv: list[str], state: int) -> None:
    """See that a program can take over from this process.

    Args:
        path: a file, or a folder with a ``__main__.py``.
        argv: what it would be started with.
        state: descriptor of a `Handover`.

    Raises:
        SupervisorError: it cannot; says why.
    """
    try:
        for file in path.glob("*.py") if path.is_dir() else [path]:  # noqa: ASYNC240 - small and local
            compile(file.read_bytes(), str(file), "exec")
    except (OSError, SyntaxError, ValueError) as exc:
        raise SupervisorError(f"{path} cannot replace the supervisor: {exc}") from exc
    command = [sys.executable, "-I", str(path), *argv, "--handover", str(state), "--check"]
    try:
        tried = await asyncio.to_thread(_try, command, state)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise SupervisorError(f"{path} cannot replace the supervisor: {exc}") from exc
    if tried.returncode != 0 or tried.stdout != UNDERSTOOD:
        said = (tried.stderr or tried.stdout).decode(errors="replace").strip()[-500:]
        raise SupervisorError(f"{path} cannot take over (exit code {tried.returncode}): {said}")


def _try(command: list[str], state: int) -> subprocess.CompletedProcess[bytes]:
    signals.hold()  # this thread must not take the main thread's
    return subprocess.run(
        command, pass_fds=[state], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
    )
