"""The main loop: start, signals, commands of the control socket, end."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from . import handover, signals, status
from .control import Client, Control
from .errors import FAILED, USAGE, StageError, SupervisorError
from .fleet import Fleet
from .handover import Handover
from .holding import Held, Places, hold, take_over
from .launch import Launcher
from .notifier import Notifier
from .phase import Phase
from .release import Release
from .reload import Reload
from .reloads import Reloads, ignore
from .replacing import Replacement
from .table import read_doors

if TYPE_CHECKING:
    from .options import Options
    from .output import Output
    from .program import Program
    from .table import EngineTable


class Supervisor:
    """Assembles the parts, starts the first workers and answers until it is told to stop.

    Args:
        options: the command line.
        table: the configuration; that of *before*, if there is one.
        output: stderr.
        program: what runs here, and what workers are started with.
        before: the state of the supervisor that this one replaces.

    Raises:
        SupervisorError: something that a host has only one of is taken, or there is no release.
    """

    def __init__(
        self,
        options: Options,
        table: EngineTable,
        output: Output,
        *,
        program: Program,
        before: Handover | None,
    ) -> None:
        self._options = options
        self._table = table
        self._output = output
        self._program = program
        self._before = before
        self._started_at = before.started_at if before else time.monotonic()
        self._notifier = Notifier()
        self._phase = Phase()
        self._places = Places.of(options, table)
        self._held, release = (take_over(before), Release(*before.release)) if before else self._hold()
        self._launcher = Launcher(
            lambda release: program.command_of(release, options.config),
            listener=self._held.listener,
            doors=self._held.doors,
            lock=self._held.lock,
            run_dir=self._places.run_dir,
            write=output.write,
            generation=before.generation if before else 0,
        )
        self._fleet = Fleet(
            release,
            self._launcher,
            count=options.workers,
            output=output,
            drain_timeout_s=table.drain_timeout_s,
            start_timeout_s=options.start_timeout_s,
        )
        self._control = Control(self._held.control, self.answer)
        self._reloads = Reloads(
            self._fleet,
            self._phase,
            options=options,
            table=table,
            doors=self._held.doors,
            has_releases=program.worker_command is None,
            output=output,
            notifier=self._notifier,
            last=before.last_reload if before else None,
        )
        self._replacement = Replacement(
            program.path, options, phase=self._phase, output=output, handover=self._handover
        )

    def _hold(self) -> tuple[Held, Release]:
        wait_s = self._options.wait_s
        doors = read_doors(self._options.config)
        held = hold(self._places, self._table, doors, wait_s=wait_s, output=self._output)
        return held, self._program.first_release(self._options)

    # Run

    async def run(self) -> int:
        """Serve until a signal or a command says otherwise. Returns the exit code.

        Raises:
            SupervisorError: no worker could be started.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._fleet.reap)
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        loop.add_signal_handler(signal.SIGINT, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reloads.hang_up)
        loop.add_signal_handler(signal.SIGUSR1, self._fleet.pass_on, signal.SIGUSR1)
        starting = asyncio.ensure_future(
            self._start() if self._before is None else self._resume(self._before)
        )
        stopping = asyncio.ensure_future(self._phase.stopped())
        signals.let_through()
        self._control.start()
        self._notifier.pat()
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                self._phase.serve()
                self._notifier.ready(self._fleet.summary)
                await stopping
        finally:
            await self._end(starting)
        return 0

    async def _start(self) -> None:
        first = Reload(
            self._fleet, self._fleet.release, bake_s=0, timeout_s=self._options.start_timeout_s, tell=ignore
        )
        try:
            await first.switch()
        except StageError as exc:
            code = USAGE if exc.exit_code == USAGE else FAILED
            raise SupervisorError(f"cannot start: {exc}", exit_code=code) from exc
        self._fleet.let_go()
        address = status.address_of(self._held.listener)
        self._output.say(f"{self._fleet.release} serves {address}, workers: {self._options.workers}")

    async def _resume(self, before: Handover) -> None:
        for slot, (restarts, streak) in zip(self._fleet.slots, before.restarts, strict=True):
            slot.restarts, slot.streak = restarts, streak
            slot.workers = [
                handover.unpacked(worker, self._output.write)
                for worker in before.workers
                if worker["slot"] == slot.number
            ]
        self._fleet.resume()
        client = Client(socket.socket(fileno=before.client_fd))
        self._output.say(f"replaced, workers that go on: {len(self._fleet.workers)}")
        await client.tell({"ok": True, "supervisor_sha256": self._program.sha256})
        self._control.adopt(client)

    async def _end(self, starting: asyncio.Future[None]) -> None:
        self._fleet.is_stopping = True
        self._notifier.stopping()
        if (
            self._before is None
        ):  # else the client that asked for the replacement has to be told, which takes no time
            starting.cancel()
        self._reloads.cancel()
        await self._fleet.stop()
        await asyncio.gather(starting, return_exceptions=True)
        await self._control.close()
        self._places.control.unlink(missing_ok=True)
        self._output.say("stopped")

    def stop(self) -> None:
        """Drain and end; the second time, at once."""
        if self._phase.is_stopping:
            self._output.say("stopping at once")
            self._fleet.kill()
        else:
            self._output.say(f"draining, workers: {len(self._fleet.workers)}")
        self._phase.stop()

    # Commands

    async def answer(self, request: dict[str, Any], client: Client) -> None:
        """Answer one request of the control socket.

        Raises:
            SupervisorError: it cannot be done; the text is for the client.
        """
        command = request.get("cmd")
        if command == "status":
            await client.tell(self._status())
        elif command == "reload":
            await self._reloads.answer(request, client)
        elif command == "replace":
            await self._replacement.answer(request, client)
        elif command == "stop":
            await client.tell({"ok": True, "state": "stopping"})
            if not self._phase.is_stopping:
                self.stop()
        else:
            raise SupervisorError(f"cmd: {command!r} is not known; takes status, reload, replace, stop")

    def _status(self) -> dict[str, Any]:
        return status.document(
            self._fleet,
            sha256=self._program.sha256,
            state=self._phase.state,
            listen=status.address_of(self._held.listener),
            started_at=self._started_at,
            last_reload=self._reloads.last,
        )

    def _handover(self, client: Client) -> Handover:
        return Handover(
            format=handover.FORMAT,
            version=self._program.version,
            worker_command=self._program.worker_command,
            listen_fd=self._held.listener.fileno(),
            control_fd=self._held.control.fileno(),
            lock_fd=self._held.lock,
            client_fd=client.sock.fileno(),
            generation=self._launcher.generation,
            started_at=self._started_at,
            release=[self._fleet.release.directory, self._fleet.release.version],
            table=asdict(self._table),
            last_reload=self._reloads.last,
            restarts=[[slot.restarts, slot.streak] for slot in self._fleet.slots],
            workers=[handover.packed(worker) for worker in self._fleet.workers],
            door_fds=self._held.doors.descriptors(),
        )
