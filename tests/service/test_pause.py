"""A node that an operator pauses: what is for it waits, and nothing of it is lost."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from engine.api.pausing import PauseNode
from engine.cli.main import main
from engine.errors import RequestError, StoreError
from engine.nodes.health import NodeState
from engine.tasks.records import Pause
from engine.tasks.shards import slot_of
from engine.workers.peers import PeerReply
from tests.fakes.node import OK, Act, FakeNode, Held, always
from tests.rigs import engine_in_loop
from tests.rigs.delivery_rig import Rig, rig_of
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.redis_servers import RedisServer
from tests.rigs.supervised_engine import SupervisedEngine
from tests.waiting import until, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

URL = "http://a.com/"
AT = 1_700_000_000.0
REASON = "paused by ops since 2023-11-14T22:13:20Z; it is delivered when the node is resumed"


async def pause(rig: Rig, name: str) -> None:
    await rig.delivery.pauses.change(Pause(name, "ops", AT))


async def resume(rig: Rig, name: str) -> None:
    await rig.delivery.pauses.change(Pause(name, "ops", AT + 60, is_paused=False))


async def test_what_is_for_a_paused_node_waits_and_others_go_on(tmp_path: Path) -> None:
    with FakeNode() as edge, FakeNode() as other:
        async with rig_of(tmp_path, {"edge-1": edge, "edge-2": other}) as rig:
            await pause(rig, "edge-1")
            task = rig.submit(targets=[URL + "1"], due_s=0.1)
            found = await rig.stored(task, "partial")
            assert (found["counter"], found["delayed"]) == (1, 1)
            assert found["errors"] == [{"node": "edge-1", "target": URL + "1", "reason": REASON}]
            assert (edge.urls, other.urls) == ([], [URL + "1"])
            alert = "edge-1 is paused by ops since 2023-11-14T22:13:20Z"
            assert rig.alerts == [("node:edge-1", "warning", alert)]
            await resume(rig, "edge-1")
            assert (await rig.stored(task, "done"))["errors"] == []
            await until(lambda: rig.node("edge-1").state is NodeState.READY)
            assert edge.urls == [URL + "1"]


async def test_what_waited_before_a_pause_says_that_the_node_is_paused(tmp_path: Path) -> None:
    """Also of a task that is at work on another node, and in memory."""
    held = Held()
    with FakeNode() as edge, FakeNode(held) as other:
        edge.stop()
        async with rig_of(tmp_path, {"edge-1": edge, "edge-2": other}) as rig:
            waits = rig.submit(targets=[URL + "1"], nodes=["edge-1"], due_s=0.1)
            found = await rig.stored(waits, "partial")
            assert found["errors"][0]["reason"].startswith("unreachable: ")
            works = rig.submit(targets=[URL + "2"])
            await until(lambda: bool(works.errors))
            await rig.saver.flushed(5)
            await pause(rig, "edge-1")
            wanted = [{"node": "edge-1", "target": URL + "2", "reason": REASON}]
            await until(lambda: list(works.errors) == wanted)
            wanted[0]["target"] = URL + "1"
            await rig.saver.flushed(5)
            assert (await rig.stored(waits, "partial"))["errors"] == wanted
            held.released.set()
            edge.start()
            await resume(rig, "edge-1")
            assert (await rig.stored(works, "done"))["errors"] == []


async def test_what_is_on_the_wire_ends_as_it_ends_and_the_rest_waits(tmp_path: Path) -> None:
    held = Held()
    with FakeNode(held) as edge:
        settings: dict[str, Any] = {"pipeline_depth": 1, "connections_per_node": 1}
        async with rig_of(tmp_path, {"edge-1": edge}, **settings) as rig:
            task = rig.submit(targets=[URL + "1", URL + "2"], due_s=0.1)
            await until(lambda: edge.urls == [URL + "1"])
            await pause(rig, "edge-1")
            held.released.set()
            found = await rig.stored(task, "partial")
            assert (found["counter"], found["delayed"]) == (1, 1)
            assert (edge.urls, edge.connections) == ([URL + "1"], 1)
            await resume(rig, "edge-1")
            await rig.stored(task, "done")
            assert edge.urls == [URL + "1", URL + "2"]


async def test_a_connection_that_ends_while_a_node_is_paused_leaves_its_purges_waiting(
    tmp_path: Path,
) -> None:
    with FakeNode(always(Act.HANG)) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            task = rig.submit(targets=[URL + "1"], due_s=0.1)
            await until(lambda: edge.urls == [URL + "1"])
            await pause(rig, "edge-1")
            edge.script = always(OK)
            edge.hang_up()
            await rig.stored(task, "partial")
            assert rig.node("edge-1").state is NodeState.PAUSED
            await resume(rig, "edge-1")
            await rig.stored(task, "done")


async def test_below_a_paused_parent_an_edge_is_purged_at_once_and_again_after_it(tmp_path: Path) -> None:
    with FakeNode() as parent, FakeNode() as edge:
        async with rig_of(tmp_path, {"parent-1": parent, "edge-1": edge}) as rig:
            await pause(rig, "parent-1")
            task = rig.submit(targets=[URL], due_s=0.1)
            await rig.stored(task, "partial")
            await until(lambda: edge.urls == [URL])
            await resume(rig, "parent-1")
            assert (await rig.stored(task, "done"))["counter"] == 2
            assert (parent.urls, edge.urls) == ([URL], [URL, URL])


async def test_a_node_that_is_down_stays_paused_and_is_asked_when_it_is_resumed(tmp_path: Path) -> None:
    edge = FakeNode()
    edge.start()
    edge.stop()
    async with rig_of(tmp_path, {"edge-1": edge}) as rig:
        task = rig.submit(targets=[URL], due_s=0.1)
        await rig.stored(task, "partial")
        await pause(rig, "edge-1")
        with edge:
            await asyncio.sleep(0.3)  # longer than the pause between two probes
            assert (edge.probes, rig.node("edge-1").state) == (0, NodeState.PAUSED)
        await resume(rig, "edge-1")
        await until(lambda: len(rig.alerts) == 3)
        assert [alert[1] for alert in rig.alerts] == ["error", "warning", "error"], "it is down, and told so"
        with edge:
            await rig.stored(task, "done")


async def test_the_first_pause_counts_and_a_store_that_forgot_it_is_told_again(tmp_path: Path) -> None:
    with FakeNode() as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            await pause(rig, "edge-1")
            again = await rig.delivery.pauses.change(Pause("edge-1", "else", AT + 9))
            assert (again.by, again.at) == ("ops", AT)
            await asyncio.to_thread(rig.store._file.writer.execute, "DELETE FROM pause")  # type: ignore[union-attr]
            await rig.delivery.pauses.refresh()
            assert rig.node("edge-1").state is NodeState.PAUSED
            await until(lambda: rig.store.pauses() == {"edge-1": Pause("edge-1", "ops", AT)})


async def test_a_pause_that_is_told_late_does_not_undo_the_resume(tmp_path: Path) -> None:
    """Also in a worker that had heard of neither; and a newer one counts, whatever was before it."""
    with FakeNode() as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            pauses, node = rig.delivery.pauses, rig.node("edge-1")
            await resume(rig, "edge-1")
            assert (await pauses.change(Pause("edge-1", "late", AT))).by == "ops"
            assert node.state is NodeState.READY
            assert rig.store.pauses() == {"edge-1": Pause("edge-1", "ops", AT + 60, is_paused=False)}
            await pauses.change(Pause("edge-1", "else", AT + 61))
            await pauses.change(Pause("edge-1", "again", AT + 63))
            await pauses.change(Pause("edge-1", "late", AT + 62, is_paused=False))
            assert pauses.is_paused("edge-1")


async def test_a_change_is_newer_than_all_others_also_by_a_clock_that_was_set_back(tmp_path: Path) -> None:
    with FakeNode() as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            pauses, ahead = rig.delivery.pauses, round(time.time() + 3600, 3)
            await pauses.change(Pause("edge-1", "ops", ahead))
            at = pauses.next_at("edge-1")
            assert ahead < at < ahead + 0.01
            await pauses.change(Pause("edge-1", "ops", at, is_paused=False))
            assert not pauses.is_paused("edge-1")
            assert abs(pauses.next_at("edge-2") - time.time()) < 60


async def test_what_another_worker_knows_to_be_newer_is_told_and_the_next_change_counts(
    tmp_path: Path,
) -> None:
    """As where the clock was set back, and this worker had missed the change before."""
    with FakeNode() as edge, FakeNode() as same:
        async with (
            rig_of(folder(tmp_path / "one"), {"edge-1": edge}) as rig,
            rig_of(folder(tmp_path / "other"), {"edge-1": same}) as other,
        ):
            there = PauseNode(other.delivery.pauses, other.nodes, peers=None, cluster=None)

            async def ask(_method: str, _path: str, body: bytes) -> list[PeerReply]:
                return [PeerReply(200, {}, await there.change_here(body)), PeerReply(200, {}, b"{}")]

            peers: Any = SimpleNamespace(ask_slots=ask)
            here = PauseNode(rig.delivery.pauses, rig.nodes, peers=peers, cluster=None)
            await other.delivery.pauses.change(Pause("edge-1", "else", time.time() + 3600))
            with pytest.raises(RequestError, match="edge-1 was paused by else meanwhile") as error:
                await here.change("edge-1", "ops", is_paused=False)
            assert error.value.status == 409
            assert rig.node("edge-1").state is NodeState.PAUSED
            assert not (await here.change("edge-1", "ops", is_paused=False))["paused"]
            for one in (rig, other):
                assert not one.delivery.pauses.is_paused("edge-1")


async def test_a_pause_that_cannot_be_written_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.delivery.pauses._WRITE_LIMIT_S", 1.0)
    with FakeNode() as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            with monkeypatch.context() as patch:

                def full(_batch: object) -> None:
                    raise StoreError("disk full")

                patch.setattr(rig.store, "commit", full)
                with pytest.raises(StoreError, match="disk full"):
                    await pause(rig, "edge-1")
                assert rig.node("edge-1").state is NodeState.READY


def test_an_engine_that_starts_again_knows_what_is_paused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def ask(port: int, *arguments: str) -> Any:
        url = f"http://127.0.0.1:{port}"
        code = await asyncio.to_thread(main, [*arguments, "--json", "--engine", url])
        return code, json.loads(capsys.readouterr().out or "null")

    async def scenario() -> None:
        with FakeNode() as edge:
            async with engine_in_loop.running(tmp_path, edge.url) as (_, port):
                code, said = await ask(port, "pause", "edge-1")
                assert (code, said["node"], said["paused"], said["by"]) == (0, "edge-1", True, "anonymous")
                assert time.time() - 60 < said["since"] <= time.time()
                assert await ask(port, "pause", "edge-1") == (0, said)
                assert (await ask(port, "pause", "edge-9"))[0] != 0
                code, _ = await ask(port, "purge", URL, "--id", "t", "--wait")
                assert code == 1, "all that is left waits"
            async with engine_in_loop.running(tmp_path, edge.url) as (engine, port):
                _, document = await ask(port, "nodes")
                [node] = document["nodes"]
                assert (node["state"], node["since"], node["delayed"]) == ("paused", said["since"], 1)
                assert node["reason"].startswith("paused by anonymous since 2")
                page = (await engine.parts.overview.own_metrics()).decode()
                [sample] = [line for line in page.splitlines() if line.startswith("purgeline_node_paused{")]
                assert sample.endswith(" 1.0")
                assert edge.urls == []
                _, said = await ask(port, "resume", "edge-1")
                assert not said["paused"]
                await until(lambda: engine.parts.core.nodes["edge-1"].state is NodeState.READY)
                assert (await ask(port, "status", "t"))[0] == 0
                assert edge.urls == [URL]

    engine_in_loop.run(scenario)


def test_all_workers_pause_a_node_over_a_kill_and_a_reload(tmp_path: Path) -> None:
    with FakeNode() as edge, SupervisedEngine(
        tmp_path, fake_table(edge.url, name="edge-1", driver="ats"), workers=2, drain_timeout_s=1
    ) as engine:  # fmt: skip
        answer = engine.request("POST", "/v1/engine/nodes/edge-1/pause")
        assert answer[0] == 200, answer
        ids = [engine.submit([f"{URL}{number}"], due_s=0.1) for number in range(8)]
        first = engine.workers()[0]
        os.kill(int(first["pid"]), signal.SIGKILL)
        wait_until(
            lambda: len(engine.workers()) == 2 and engine.workers()[0]["pid"] != first["pid"],
            what="a new worker",
        )
        engine.reload()
        ids += [engine.submit([f"{URL}new-{number}"], due_s=0.1) for number in range(8)]
        for task_id in ids:
            engine.wait_for(task_id, "partial")
        assert engine.node("edge-1")["state"] == "paused"
        assert edge.urls == []
        assert engine.request("POST", "/v1/engine/nodes/edge-1/resume")[0] == 200
        for task_id in ids:
            assert engine.wait_for(task_id)["state"] == "done"


@pytest.mark.slow
def test_a_worker_that_is_just_being_started_pauses_the_node_too(tmp_path: Path) -> None:
    """Its files are its own: before a client is told, it has written the pause there."""
    with FakeNode() as edge, SupervisedEngine(
        tmp_path, fake_table(edge.url, name="edge-1", driver="ats"), workers=2, drain_timeout_s=1
    ) as engine:  # fmt: skip
        both = wait_until(lambda: len(found := engine.workers()) == 2 and found, what="two workers")
        assert both
        os.kill(int(both[1]["pid"]), signal.SIGKILL)
        wait_until(lambda: len(engine.workers()) == 1, what="the supervisor seeing that it has gone")
        answer = engine.request("POST", "/v1/engine/nodes/edge-1/pause")
        assert answer[0] == 200, answer
        wait_until(lambda: len(engine.workers()) == 2, what="a new worker")
        for number in range(8):
            engine.wait_for(engine.submit([f"{URL}{number}"], due_s=0.1), "partial")
        assert edge.urls == []


@pytest.mark.slow
def test_workers_that_a_reload_is_bringing_up_pause_the_node_too(tmp_path: Path) -> None:
    """One is ready, and nobody is told of it yet: it waits for the other before it accepts."""
    held = Held()
    with FakeNode() as edge, FakeNode(held) as slow:
        tables = fake_table(edge.url, name="edge-1", driver="ats")
        tables += fake_table(slow.url, name="slow", driver="ats")
        with SupervisedEngine(
            tmp_path, tables, workers=2, drain_timeout_s=60, request_timeout_s=90
        ) as engine:  # fmt: skip
            for slot in (0, 1):  # the workers before do not leave yet
                name = next(f"held-{number}" for number in range(99) if slot_of(f"held-{number}", 2) == slot)
                engine.submit([f"{URL}held"], nodes=["slow"], id=name)
            engine.wait_for_quiet()
            os.kill(engine.pid, signal.SIGHUP)
            starting = wait_until(
                lambda: len(found := engine.workers("starting")) == 2 and found, what="the new workers"
            )
            assert starting
            second = int(starting[1]["pid"])
            os.kill(second, signal.SIGSTOP)
            wait_until(lambda: len(engine.workers("ready")) == 1, what="the first of them being ready")
            answer = engine.request("POST", "/v1/engine/nodes/edge-1/pause")
            os.kill(second, signal.SIGCONT)
            assert answer[0] == 200, answer
            wait_until(lambda: len(engine.workers("draining")) == 2, what="the new workers accepting")
            for number in range(8):
                engine.submit([f"{URL}{number}"], id=f"t{number}", nodes=["edge-1"], due_s=0.1)
            for number in range(8):
                engine.wait_for(f"t{number}", "partial")
            assert len(engine.workers("draining")) == 2
            assert edge.urls == []
            held.released.set()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.mark.redis
def test_every_engine_of_one_redis_pauses_a_node(tmp_path: Path, redis: RedisServer) -> None:
    with FakeNode() as edge:
        tables = f'[store]\nurl = "{redis.url}"\ntakeover_s = 2\n' + fake_table(
            edge.url, name="edge-1", driver="ats"
        )
        one, other = (EngineProcess(folder(tmp_path / name), tables, name=name) for name in ("one", "other"))
        with one, other:
            assert one.request("POST", "/v1/engine/nodes/edge-1/pause")[0] == 200
            wait_until(lambda: other.node("edge-1")["state"] == "paused", what="the other pausing it")
            task_id = other.submit([URL], due_s=0.1)
            other.wait_for(task_id, "partial")
            one.kill()
            one.start()
            assert one.node("edge-1")["state"] == "paused"
            assert edge.urls == []
            assert other.request("POST", "/v1/engine/nodes/edge-1/resume")[0] == 200
            assert one.wait_for(task_id)["state"] == "done"
            wait_until(lambda: one.node("edge-1")["state"] == "ready", what="the first resuming it")
            assert edge.urls == [URL]


def folder(path: Path) -> Path:
    path.mkdir()
    return path
