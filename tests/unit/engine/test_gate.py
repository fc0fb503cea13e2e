"""Which connections are open, and how they end. The connections are recorders."""

from __future__ import annotations

import asyncio
from typing import Any

from engine.intake.gate import Gate


class Recorder:
    """A connection that is busy or not, and notes what the gate asks for."""

    def __init__(self, gate: Gate, *, is_busy: bool = False) -> None:
        self.gate = gate
        self.is_busy = is_busy
        self.asked: list[str] = []
        gate.connections.add(self)

    def check_time(self, now: float) -> None:
        self.asked.append("check_time")

    def close_if_idle(self) -> None:
        self.asked.append("close_if_idle")
        if not self.is_busy:
            self.gate.forget(self)

    def abort(self) -> None:
        self.asked.append("abort")
        self.gate.forget(self)


def make_gate() -> Gate:
    nothing: Any = None
    return Gate(
        addresses=nothing,
        server="s",
        connections_max=10,
        header_timeout_s=1,
        body_timeout_s=1,
        idle_timeout_s=1,
    )


async def test_idle_connections_are_closed_and_busy_ones_may_finish() -> None:
    gate = make_gate()
    idle, busy = Recorder(gate), Recorder(gate, is_busy=True)
    gate.close_idle()
    assert gate.is_closing
    assert gate.connections == {busy}
    assert idle.asked == ["close_if_idle"]
    gate.close()


async def test_waiting_ends_with_the_last_connection() -> None:
    gate = make_gate()
    last = Recorder(gate, is_busy=True)
    waiting = asyncio.ensure_future(gate.wait_closed(60))
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.forget(last)
    await waiting
    gate.close()


async def test_waiting_ends_with_its_time() -> None:
    gate = make_gate()
    last = Recorder(gate, is_busy=True)
    await gate.wait_closed(0)
    assert gate.connections == {last}
    gate.close()
    assert last.asked == ["abort"]
    await gate.wait_closed(60)  # nothing is open: no wait
