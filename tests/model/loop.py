"""An event loop whose time jumps to the next thing that happens, with processes that can be killed.

Nothing waits for real time, and no thread takes part: what the engine gives to threads is done on the loop,
see `run_in_executor` and `tests.model.inside`. So a run depends on its seed alone.

A *process* is everything that was started in one context: its callbacks, tasks, timers and connections.
Killed, it does nothing any more, as after ``kill -9``; its connections are reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import selectors
import traceback
from typing import TYPE_CHECKING, Any, TypeVar

from tests.model.pipes import Net
from tests.model.processes import PROCESS, Process, current_process, is_dead

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

WALL_START_S = 1_800_000_000.0  #: UNIX time when the loop's time is 0
_SPIN_MAX = 20_000  #: turns of the loop without a step of time
_BUSY_S = 10.0
_BUSY_MAX = 20_000  #: turns in `_BUSY_S`; a whole run has a thousand


class BusyError(RuntimeError):
    """The loop turns and turns: something is done again and again."""


class _Handle(asyncio.Handle):
    """A call that a killed process does not make any more."""

    def _run(self) -> None:
        if not is_dead(self._context):  # type: ignore[attr-defined]
            super()._run()


class _TimerHandle(asyncio.TimerHandle):
    def _run(self) -> None:
        if not is_dead(self._context):  # type: ignore[attr-defined]
            super()._run()


class _Selector(selectors.SelectSelector):
    """Waits by moving the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.next_at: Callable[[], float]  #: tells when the loop's first timer is due
        self.spins = 0
        self._turns = 0  # since `_turns_from`
        self._turns_from = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        self._turns += 1
        if self.now > self._turns_from + _BUSY_S:
            self._turns, self._turns_from = 0, self.now
        elif self._turns > _BUSY_MAX:
            raise BusyError(f"the loop turned {_BUSY_MAX} times in {_BUSY_S:g} s")
        if timeout is None:
            raise RuntimeError("nothing will ever happen again: everything waits for something else")
        if timeout > 0:
            self.now = max(self.now, self.next_at())
            self.spins = 0
        else:
            self.spins += 1
            if self.spins > _SPIN_MAX:
                raise RuntimeError(f"the loop turned {_SPIN_MAX} times without a step of time")
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop.

    Args:
        rng: draws how long connections and stores take.

    Attributes:
        net: who listens where, in memory.
        failures: what an exception that nobody caught said.
    """

    def __init__(self, rng: random.Random) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)
        self._clock_resolution = 1e-10
        self._clock.next_at = self._next_at
        self.rng = rng
        self.net = Net(self)
        self.failures: list[str] = []
        self.processes: list[Process] = []
        self.set_exception_handler(self._note_failure)

    # Time

    def time(self) -> float:
        """Return the virtual time, in seconds."""
        return self._clock.now

    def wall(self) -> float:
        """Return the virtual UNIX time."""
        return WALL_START_S + self._clock.now

    def _next_at(self) -> float:
        return self._scheduled[0].when()  # type: ignore[attr-defined, no-any-return]

    def _write_to_self(self) -> None:
        """No thread needs to wake the loop."""

    # Calls that belong to a process

    def _call_soon(self, callback: Any, args: Any, context: Any) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        """See `asyncio.loop.call_at`."""
        timer = _TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> asyncio.Task[Any]:
        """See `asyncio.loop.create_task`; the task belongs to the process of its context."""
        task = super().create_task(coro, name=name, context=context)
        process = current_process() if context is None else context.get(PROCESS)
        if process is not None:
            process.tasks.add(task)
            task.add_done_callback(process.tasks.discard)
        return task

    # Processes

    def spawn(self, name: str) -> Process:
        """Return a new process; what is started in its context belongs to it."""
        process = Process(name)
        self.processes.append(process)
        return process

    def kill(self, process: Process) -> None:
        """End a process in the middle of whatever it does."""
        process.is_dead = True
        self.net.reset_all(process)

    def bury(self) -> None:
        """Let go of what processes left behind, at the end of a run."""
        for process in self.processes:
            process.is_dead = True
            for task in list(process.tasks):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                coro: Any = task.get_coro()
                for _ in range(5):
                    with contextlib.suppress(Exception):
                        coro.close()
                        break

    # What goes to threads elsewhere

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        """Call *func* now or a little later, and say what came of it later still, as a thread would."""
        done = self.create_future()

        def call() -> None:
            try:
                result = func(*args)
            except Exception as exc:  # noqa: BLE001 - goes to whoever waits
                self.call_later(self.rng.uniform(0, 0.002), _settle, done, None, exc)
            else:
                self.call_later(self.rng.uniform(0, 0.002), _settle, done, result, None)

        self.call_later(self.rng.choice((0.0, 0.0002, 0.002)), call)
        return done

    # Connections

    async def create_connection(self, protocol_factory: Any, *address: Any, **_: Any) -> Any:
        """Connect to who listens in memory."""
        return await self.net.connect(protocol_factory, address)

    async def create_unix_connection(self, protocol_factory: Any, path: Any = None, **_: Any) -> Any:
        """Connect to who listens in memory."""
        return await self.net.connect(protocol_factory, (str(path), 0))

    # Failures

    def _note_failure(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        process = current_process()
        if process is not None and process.is_dead:
            return
        exc = context.get("exception")
        if isinstance(exc, ResourceWarning) or "Unclosed" in str(context.get("message")):
            return
        trace = "".join(traceback.format_exception(exc)) if exc is not None else ""
        self.failures.append(f"{context.get('message')}: {exc!r}\n{trace}")


def _settle(done: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if done.done():
        return
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(result)


def run(main: Coroutine[Any, Any, T], loop: VirtualLoop, end: Callable[[], None]) -> T:
    """Run *main* on *loop*, call *end* whatever came of it, and let go of everything."""
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(main)
    finally:
        end()
        loop.bury()
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coro: Any = task.get_coro()
            with contextlib.suppress(AttributeError):  # mypyc 2.4: a compiled one is closed once
                coro.close()
        asyncio.set_event_loop(None)
        loop.close()
