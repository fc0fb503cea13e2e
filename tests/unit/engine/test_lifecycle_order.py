"""In which order an engine starts and stops. The parts are recorders."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import StoreError
from engine.process.lifecycle import Lifecycle


class Part:
    """Notes each call of one part; what the engine awaits of it is in *awaited*, with what comes of it."""

    def __init__(self, log: list[str], name: str, **awaited: Any) -> None:
        self._log = log
        self._name = name
        self._awaited = awaited

    def __getattr__(self, call: str) -> Any:
        def note(*_: object, **__: object) -> Any:
            self._log.append(f"{self._name}.{call}")
            return self._answer(self._awaited[call]) if call in self._awaited else None

        return note

    async def _answer(self, outcome: Any) -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        return await outcome.wait() if isinstance(outcome, asyncio.Event) else outcome


class Engine:
    """A lifecycle with recorders for parts."""

    def __init__(self, *, is_shared: bool = False, drained: Any = True, written: Any = True) -> None:
        self.log: list[str] = []
        self.saver = self.part("saver", drain=written)
        self.saver.error = StoreError("disk full")
        self.saver.store = self.part("store")
        core = SimpleNamespace(
            config=SimpleNamespace(engine=SimpleNamespace(drain_timeout_s=4.0)),
            savers=SimpleNamespace(savers=[self.saver]),
            nodes={"e1": self.part("node")},
            outbox=self.part("outbox", start=None, drain=None),
            peers=self.part("peers", close=None),
            spans=self.part("spans", close=None),
            reader=self.part("reader"),
            history_reader=self.part("history reader"),
            timer=self.part("timer"),
            dues=self.part("dues"),
            silences=self.part("silences", refresh=None),
        )
        delivery = SimpleNamespace(
            load=self.part("load", drain=drained),
            dispatch=self.part("dispatch"),
            redelivery=self.part("redelivery", stop=None),
            gone=self.part("gone", refresh=None, stop=None),
            pauses=self.part("pauses", refresh=None),
            touched=self.part("touched") if is_shared else None,
        )
        delivery.load.live = 3
        parts: Any = SimpleNamespace(
            core=core,
            delivery=delivery,
            stores=self.part("stores", open=None),
            elsewhere=self.part("elsewhere"),
            replay=self.part("replay", at_start=None, take_over=None),
            replayed=self.part("replayed"),
            cluster=self.part("cluster", join=None, look=None, leave=None) if is_shared else None,
            readiness=self.part("readiness"),
            housekeeping=self.part("housekeeping"),
            proof=self.part("proof", close=None),
            tree=self.part("tree", close=None),
            canaries=self.part("canaries", open=None, listen=None, stop=None, close=None),
            interface=SimpleNamespace(
                gate=self.part("gate", wait_closed=None),
                api=self.part("api", start=None, close=None),
                signer=self.part("signer"),
            ),
            doors=self.part("doors", open=None, wait_saved=None, close=None),
        )
        parts.doors.gates = {"127.0.0.1:9182": self.part("door", wait_closed=None)}
        self.lifecycle = Lifecycle(parts)

    def part(self, name: str, **awaited: Any) -> Any:
        return Part(self.log, name, **awaited)

    def order_of(self, *calls: str) -> list[str]:
        return [call for call in self.log if call in calls]


async def test_an_engine_is_ready_when_it_holds_what_its_store_has() -> None:
    engine = Engine()
    await engine.lifecycle.prepare()
    assert engine.log == [
        "stores.open",
        "silences.refresh",
        "canaries.listen",
        "elsewhere.open",
        "saver.start",
        "outbox.start",
        "canaries.open",
        "gone.refresh",
        "pauses.refresh",
        "replay.at_start",
        "node.start",
        "api.start",
        "doors.open",
        "gone.start",
        "readiness.note_prepared",
        "signer.start",
        "housekeeping.start",
    ]


async def test_with_a_shared_store_it_joins_the_others_and_has_nothing_to_replay() -> None:
    engine = Engine(is_shared=True)
    await engine.lifecycle.prepare()
    assert engine.order_of("replay.at_start", "replayed.set", "cluster.join") == [
        "replayed.set",
        "cluster.join",
    ]


async def test_it_stops_in_the_reverse_order() -> None:
    engine = Engine(is_shared=True)
    await engine.lifecycle.drain()
    stages = (
        *(
            "readiness.note_draining",
            "gate.drain",
            "load.drain",
            "readiness.note_ending",
            "housekeeping.stop",
        ),
        *(
            "canaries.stop",
            "dispatch.stop",
            "tree.stop",
            "gone.stop",
            "redelivery.stop",
            "node.close",
            "touched.take",
            "saver.save_progress",
            "saver.drain",
            "gate.close",
            "canaries.close",
            "outbox.drain",
        ),
        *(
            "api.close",
            "tree.close",
            "peers.close",
            "spans.close",
            "cluster.leave",
            "timer.close",
            "elsewhere.close",
            "saver.stop",
            "store.close",
            "history reader.close",
            "reader.close",
        ),
    )
    assert engine.order_of(*stages) == list(stages)


async def test_clients_between_two_requests_have_a_moment_before_they_are_closed() -> None:
    engine = Engine()
    await engine.lifecycle.drain()
    gate = [call for call in engine.log if call.startswith("gate.")]
    assert gate == ["gate.drain", "gate.wait_closed", "gate.close_idle", "gate.wait_closed", "gate.close"]


async def test_the_gates_of_doors_end_as_the_engines_own_and_who_waits_is_answered() -> None:
    engine = Engine()
    await engine.lifecycle.drain()
    assert [call.partition(".")[2] for call in engine.log if call.startswith("door.")] == [
        call.partition(".")[2] for call in engine.log if call.startswith("gate.")
    ]
    assert engine.order_of("doors.stop_accepting", "door.drain", "doors.stop_waiting", "door.close_idle") == [
        "doors.stop_accepting",
        "door.drain",
        "doors.stop_waiting",
        "door.close_idle",
        "doors.stop_accepting",
    ]


async def test_what_came_in_datagrams_is_saved_and_answered_before_the_end() -> None:
    engine = Engine()
    await engine.lifecycle.drain()
    stages = ["doors.stop_accepting", "doors.wait_saved", "load.drain", "doors.stop_accepting", "saver.drain"]
    assert engine.order_of(*stages, "doors.close") == [*stages, "doors.close"]


async def test_what_is_not_done_in_time_does_not_keep_it_from_stopping() -> None:
    engine = Engine(drained=False, written=False)
    await engine.lifecycle.drain()
    assert engine.log[-3:] == ["store.close", "history reader.close", "reader.close"]


async def test_it_runs_until_it_is_asked_to_stop() -> None:
    engine = Engine()
    running = asyncio.create_task(engine.lifecycle.run_until_stopped())
    await asyncio.sleep(0)
    assert engine.log == []
    engine.lifecycle.stop()
    await running
    assert engine.log[0] == "readiness.note_draining"
    assert engine.log[-1] == "reader.close"


async def test_a_second_stop_does_not_wait_for_what_is_on_its_way() -> None:
    never = asyncio.Event()
    engine = Engine(drained=never)
    running = asyncio.create_task(engine.lifecycle.run_until_stopped())
    engine.lifecycle.stop()
    while "load.drain" not in engine.log:  # noqa: ASYNC110 - a few turns of the loop
        await asyncio.sleep(0)
    engine.lifecycle.stop()
    await running
    assert "saver.drain" in engine.log, "what was accepted is still written"


async def test_a_drain_that_fails_is_not_swallowed() -> None:
    engine = Engine(drained=RuntimeError("broken"))
    engine.lifecycle.stop()
    with pytest.raises(RuntimeError, match="broken"):
        await engine.lifecycle.run_until_stopped()


@pytest.mark.parametrize(("is_shared", "call"), [(False, "replay.take_over"), (True, "cluster.look")])
async def test_it_takes_over_from_the_worker_before(*, is_shared: bool, call: str) -> None:
    engine = Engine(is_shared=is_shared)
    await engine.lifecycle.take_over()
    assert engine.log == ["elsewhere.take_left", "pauses.refresh", "silences.refresh", call]
