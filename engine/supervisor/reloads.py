"""Reloads, one at a time: what is asked for, how it went, who is told."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .errors import StageError, SupervisorError
from .release import Release
from .reload import Reload
from .table import read_doors, read_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from .control import Client
    from .doors import DoorSockets
    from .fleet import Fleet
    from .notifier import Notifier
    from .options import Options
    from .output import Output
    from .phase import Phase
    from .table import EngineTable

_HANG_UP: Final = "SIGHUP"


class Begun(NamedTuple):
    """A reload under way."""

    reload: Reload
    task: asyncio.Task[dict[str, Any]]  #: gives the last line of the answer


class Reloads:
    """Begins reloads and remembers how the last one went.

    Args:
        fleet: the workers.
        phase: is told when a reload begins and ends.
        options: where the configuration and the releases are.
        table: the configuration at the start; a reload keeps address and data folder.
        doors: their sockets, which follow the configuration.
        has_releases: workers run releases, not one given program.
        output: is told how it goes.
        notifier: as *output*, for systemd.
        last: how the last reload of the supervisor before this one went.

    Attributes:
        last: document about the last reload that has ended; None: there was none.
    """

    def __init__(
        self,
        fleet: Fleet,
        phase: Phase,
        *,
        options: Options,
        table: EngineTable,
        doors: DoorSockets,
        has_releases: bool,
        output: Output,
        notifier: Notifier,
        last: dict[str, Any] | None = None,
    ) -> None:
        self.last = last
        self._fleet = fleet
        self._phase = phase
        self._options = options
        self._table = table
        self._doors = doors
        self._has_releases = has_releases
        self._output = output
        self._notifier = notifier
        self._task: asyncio.Task[dict[str, Any]] | None = None

    def hang_up(self) -> None:
        """Read the configuration again: now, or when what is under way is over."""
        is_begun = self._phase.begin_when_free(self._begin_by_signal)
        if not is_begun and not self._phase.is_stopping:
            self._output.say(f"{_HANG_UP}: the supervisor is {self._phase.state}, a reload follows")

    def _begin_by_signal(self) -> None:
        try:
            self.begin({}, ignore, by=_HANG_UP)
        except SupervisorError as exc:
            self._output.say(f"{_HANG_UP}: {exc}")
            version = self._fleet.release.version
            self.last = {"at": time.time(), "by": _HANG_UP, "from": version, "to": version, "ok": False}
            self.last |= {"error": str(exc), "log": [], "accepting_after_s": None}

    def begin(self, request: dict[str, Any], tell: Callable[..., None], *, by: str = "") -> Begun:
        """Start a reload that goes on whoever asked for it.

        Args:
            request: ``release_dir version bake_s timeout_s``, all optional.
            tell: is given an event for each step.
            by: who asks, for `last`.

        Raises:
            SupervisorError: it is refused, and nothing has been started.
        """
        self._phase.refuse_if_busy()
        bake_s = seconds(request, "bake_s", self._options.bake_s)
        timeout_s = seconds(request, "timeout_s", self._options.start_timeout_s)
        target = self._target(request)
        doors = self._reread_table()
        reload = Reload(self._fleet, target, bake_s=bake_s, timeout_s=timeout_s, tell=tell)
        self._phase.begin_reload(reload)
        self._task = asyncio.ensure_future(self._run(reload, doors, by))
        return Begun(reload, self._task)

    def cancel(self) -> None:
        """End the reload that is under way, because everything ends."""
        if self._task is not None:
            self._task.cancel()

    def _target(self, request: dict[str, Any]) -> Release:
        directory, version = request.get("release_dir"), request.get("version")
        if not isinstance(directory, str | None) or not isinstance(version, str | None):
            raise SupervisorError("release_dir and version are texts")
        if directory is None:
            return replace(self._fleet.release, version=version or self._fleet.release.version)
        if not self._has_releases:
            raise SupervisorError("release_dir: this supervisor runs one program and no releases")
        if "\0" in directory:
            raise SupervisorError(f"release_dir: {directory!r} is no path")
        return Release.at((self._options.root or Path()) / directory, version or "")

    def _reread_table(self) -> list[str]:
        """Read what a reload may change, open new doors, and return the names of the sockets of all."""
        path = self._options.config
        now = read_table(path, listen=self._options.listen)
        if change := change_that_needs_a_restart(self._table, now):
            raise SupervisorError(f"{path}: {change}: that needs a restart, a reload keeps it")
        doors = read_doors(path)
        self._doors.open(doors, now.listen_backlog)
        self._fleet.drain_timeout_s = now.drain_timeout_s
        return doors

    async def _run(self, reload: Reload, doors: list[str], by: str) -> dict[str, Any]:
        before = self._fleet.release.version
        self._notifier.reloading(str(reload.target))
        self._output.say(f"reload from {self._fleet.release} to {reload.target}")
        answer = await self._outcome(reload)
        if answer["ok"]:
            self._doors.keep(doors)
        if reload.accepted.done():
            answer["accepting_after_s"] = reload.accepted.result()
        self._output.say(answer.get("error", f"reload to {self._fleet.release} is done"))
        self.last = {
            "at": time.time(),
            "by": by,
            "from": before,
            "to": reload.target.version or self._fleet.release.version,
            "ok": answer["ok"],
            "error": answer.get("error"),
            "log": answer.get("log", [])[-1:],
            "accepting_after_s": answer.get("accepting_after_s"),
        }
        self._task = None
        self._phase.end_reload()
        if not self._phase.is_stopping:
            self._notifier.ready(self._fleet.summary)
        return answer

    async def _outcome(self, reload: Reload) -> dict[str, Any]:
        try:
            await reload.run()
        except StageError as exc:
            text = f"reload to {reload.target} failed at {exc.stage}: {exc}"
            return {"ok": False, "error": text, "stage": exc.stage, "log": exc.log}
        except asyncio.CancelledError:
            text = f"reload to {reload.target} ended at {reload.stage}: the supervisor was told to stop"
        except Exception as exc:  # noqa: BLE001 - a mistake of ours: the next reload must not find us busy
            self._fleet.withdraw([worker for worker in self._fleet.workers if worker.is_candidate])
            text = f"reload to {reload.target} ended at {reload.stage}: {exc!r}"
        else:
            return {"ok": True, "version": self._fleet.release.version}
        return {"ok": False, "error": text, "stage": reload.stage, "log": []}

    async def answer(self, request: dict[str, Any], client: Client) -> None:
        """Reload, and tell a client each step and the end.

        Without ``wait_bake`` in the request, the end is that the last new worker accepts.
        """
        events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        try:
            reload, task = self.begin(
                request, lambda event, **fields: events.put_nowait({"event": event, **fields})
            )
        except SupervisorError as exc:
            await client.tell({"ok": False, "error": str(exc), "stage": "start", "log": []})
            return
        task.add_done_callback(lambda _: events.put_nowait(None))
        if not request.get("wait_bake", True):
            reload.accepted.add_done_callback(lambda _: events.put_nowait(None))
        while (event := await events.get()) is not None:
            await client.tell(event)
        if task.done():
            await client.tell(task.result())
        else:
            version = self._fleet.release.version
            after_s = reload.accepted.result()
            await client.tell({"ok": True, "version": version, "accepting_after_s": after_s})


def ignore(event: str, **fields: Any) -> None:
    """Take an event of a reload that nobody follows."""


def change_that_needs_a_restart(before: EngineTable, now: EngineTable) -> str:
    """Name the key that a reload cannot change and that has changed; else nothing."""
    for key in ("listen", "data_dir"):
        old, new = getattr(before, key), getattr(now, key)
        if old != new:
            return f"engine.{key} has changed from {old} to {new}"
    return ""


def seconds(request: dict[str, Any], key: str, default: float) -> float:
    """Return a span of a request.

    Raises:
        SupervisorError: it is no number from 0 to 3600.
    """
    value = request.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 3600:  # noqa: PLR2004
        raise SupervisorError(f"{key}: {value!r} is no number of seconds from 0 to 3600")
    return float(value)
