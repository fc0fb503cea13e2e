"""Start and stop, seen from inside."""

import asyncio
import gc
from pathlib import Path

import pytest

from tests.fakes.callback_receiver import RULE, Receiver
from tests.fakes.node import FakeNode
from tests.rigs.engine_in_loop import run, running
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.waiting import until, wait_until


def test_ready_only_between_start_and_stop(tmp_path: Path) -> None:
    """The reason says which side of it."""

    async def scenario() -> None:
        with FakeNode() as node:
            async with running(tmp_path, node.url) as (engine, port):
                assert engine.parts.readiness.not_ready_reason() == ""
                engine.stop()
                assert engine.parts.readiness.not_ready_reason() == "the engine is draining"
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: e\r\n\r\n")
                assert (await reader.readline()).startswith(b"HTTP/1.1 503")
                writer.close()
                await writer.wait_closed()

    run(scenario)


def count_of(kind: type) -> int:
    """Tell how many objects of a class live: one that is compiled has no weak references."""
    return sum(type(one) is kind for one in gc.get_objects())


@pytest.mark.parametrize("path", ["/v1/engine/task", "/readyz"])
def test_a_connection_that_is_over_is_freed_at_once(tmp_path: Path, path: str) -> None:
    """On either lane; left to the collector, a client that polls would cost it a look at all that lives."""

    async def scenario() -> None:
        with FakeNode() as node:
            async with running(tmp_path, node.url) as (engine, port):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(f"GET {path} HTTP/1.1\r\nHost: e\r\n\r\n".encode())
                await reader.readline()
                (kind,) = {type(connection) for connection in engine.parts.interface.gate.connections}
                assert count_of(kind) == 1
                gc.disable()
                try:
                    writer.close()
                    await writer.wait_closed()
                    await until(lambda: count_of(kind) == 0, "the connection being freed")
                finally:
                    gc.enable()

    run(scenario)


def test_two_engines_after_each_other_on_one_folder(tmp_path: Path) -> None:
    """The first lets go of its files."""

    async def scenario() -> None:
        with FakeNode() as node:
            for number in range(2):
                async with running(tmp_path, node.url) as (engine, _):
                    assert len(engine.parts.core.regions) == 0, number

    run(scenario)


def test_callbacks_of_all_savers_are_delivered_once_also_after_a_restart(tmp_path: Path) -> None:
    """Each saver's file numbers its callbacks from one."""
    receiver = Receiver()
    receiver.status = lambda count: 503
    try:
        with (
            FakeNode() as node,
            EngineProcess(tmp_path, RULE + fake_table(node.url, name="e"), saver_count=2) as engine,
        ):
            ids = [engine.submit([f"http://a.com/{number}"], callback=receiver.url) for number in range(20)]
            for task_id in ids:
                engine.wait_for(task_id, "done")
            wait_until(
                lambda: {post["task_id"] for post in receiver.documents()} == set(ids), what="all posts"
            )
            assert engine.get("/v1/engine/stats")["notify_queue"] == 20
            assert engine.stop() == 0
            refused = len(receiver.posts)
            receiver.status = lambda count: 204
            engine.start()
            wait_until(lambda: engine.get("/v1/engine/stats")["notify_queue"] == 0, what="an empty queue")
            assert sorted(post["task_id"] for post in receiver.documents()[refused:]) == sorted(ids)
            assert engine.stop() == 0
            engine.start()
            assert engine.get("/v1/engine/stats")["notify_queue"] == 0
            assert len(receiver.posts) == refused + 20
        assert len(list((tmp_path / "var").glob("tasks-*.db"))) == 2
    finally:
        receiver.stop()


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_another_saver_count_on_the_same_data_is_refused(tmp_path: Path, before: int, after: int) -> None:
    """It says which file a task is in."""
    with FakeNode() as node:
        tables = fake_table(node.url, name="edge-1")
        with EngineProcess(tmp_path, tables, saver_count=before) as engine:
            engine.wait_for(engine.submit(["http://a.com/"]), "done")
        other = EngineProcess(tmp_path, tables, saver_count=after)
        other.start(wait=False)
        assert other.process is not None
        try:
            assert other.process.wait(20) == 1
        finally:
            other.stop()
        last = other.log().splitlines()[-1]
        assert f"with workers=1 saver_count={before}," in last
        assert f"cannot be workers=1 saver_count={after} there" in last
        assert "Traceback" not in other.log()
        with EngineProcess(tmp_path, tables, saver_count=before) as engine:
            assert len(engine.get("/v1/engine/tasks")["tasks"]) == 1
