"""Silences of alerts: what an operator asks for, in every worker and engine, over restarts and reloads."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from engine.api import silencing
from engine.api.route import TOKEN
from engine.cli.main import main
from engine.delivery.silences import KEPT_S, Silences
from engine.errors import StoreError
from engine.tasks.records import Silence
from tests.fakes.callback_receiver import Receiver
from tests.fakes.node import FakeNode
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
PATH = "/v1/engine/silences"
ASKED = {"matchers": ["node:edge-1"], "reason": "new disks", "for_s": 3600}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.stop()


def test_an_operator_silences_an_alert_and_an_engine_that_starts_again_keeps_it_silenced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], receiver: Receiver
) -> None:
    async def ask(port: int, *arguments: str) -> Any:
        url = f"http://127.0.0.1:{port}"
        code = await asyncio.to_thread(main, [*arguments, "--json", "--engine", url])
        return code, json.loads(capsys.readouterr().out or "null")

    async def scenario() -> None:
        edge = FakeNode()
        edge.start()
        edge.stop()
        tables: dict[str, object] = {"alert": {"url": receiver.url}}
        why = ("--for", "2h", "--reason", "new disks")
        async with engine_in_loop.running(tmp_path, edge.url, tables=tables) as (_, port):
            code, made = await ask(port, "silence", "kind=node", "node=edge-1", *why)
            assert (code, made["state"], made["by"], made["reason"]) == (
                0,
                "active",
                "anonymous",
                "new disks",
            )
            assert 7100 < made["until"] - time.time() <= 7200
        async with engine_in_loop.running(tmp_path, edge.url, tables=tables) as (engine, port):
            held = engine.parts.core.outbox.silenced
            await ask(port, "purge", URL)
            await until(lambda: len(held) == 1)
            _, found = await ask(port, "silences")
            [silence] = found["silences"]
            [alert] = silence["alerts"]
            assert silence | {"alerts": []} == made
            assert (alert["key"], alert["level"]) == ("node:edge-1", "error")
            page = (await engine.parts.overview.own_metrics()).decode()
            assert "\npurgeline_alerts_silenced 1.0" in page
            assert receiver.posts == []
            _, ended = await ask(port, "unsilence", made["id"])
            assert ended["state"] == "ended"
            await until(lambda: bool(receiver.posts))
            [said] = receiver.documents()
            assert said["changed"].startswith("still on since 2")
            assert said["changed"].endswith("; was silenced by anonymous: new disks")
            assert (await ask(port, "unsilence", "none"))[0] == 2
            assert (await ask(port, "silence", "node:edge-1", "--reason", "no end"))[0] == 2

    engine_in_loop.run(scenario)
    log = (tmp_path / "log").read_text()
    lines = [json.loads(line) for line in log.splitlines() if '"audit":"silenced"' in line]
    assert [(line["message"], line["target"], line["reason"]) for line in lines] == [
        ("alerts silenced", "kind=node, node=edge-1", "new disks"),
        ("silence ended", "kind=node, node=edge-1", "new disks"),
    ]
    [line] = [line for line in log.splitlines() if '"silenced":"' in line and "node:edge-1" in line][:1]
    assert "by anonymous until 2" in line


def silenced_by(engine: EngineProcess) -> list[str]:
    """Return the keys of the alerts that the engine's only silence keeps from being sent."""
    [silence] = engine.get(PATH)["silences"]
    return [alert["key"] for alert in silence["alerts"]]


def silences_of(rig: Rig) -> tuple[Silences, list[list[Silence]]]:
    told: list[list[Silence]] = []
    savers: Any = SimpleNamespace(savers=[rig.saver])
    return Silences(savers, rig.reader, lambda all_: told.append(list(all_))), told


async def test_a_silence_only_becomes_shorter_and_is_forgotten_a_day_after_its_end(tmp_path: Path) -> None:
    now = time.time()
    first = Silence("s1", ["kind=node"], "r", "ops", now, now + 60)
    with FakeNode() as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            silences, told = silences_of(rig)
            ended = Silence("s1", ["kind=node"], "r", "ops", now, now + 5)
            for one, counts in ((first, first), (ended, ended), (first, ended)):
                assert await silences.change(one) == counts
            assert told == [[first], [ended]]
            old = Silence("s2", ["kind=node"], "r", "ops", 1.0, now - KEPT_S - 9)
            await silences.change(old)
            assert silences.all() == [ended]
            await silences.change(Silence("s3", ["kind=node"], "r", "ops", now + 1, now + 60))
            assert set(rig.store.silences()) == {"s1", "s3"}
            other, _ = silences_of(rig)
            await other.refresh()
            assert [one.id for one in other.all()] == ["s3", "s1"]


async def test_a_silence_that_one_of_the_files_does_not_take_acts_in_none_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is answered that it was not begun is not to find alerts silenced after a restart."""
    monkeypatch.setattr("engine.delivery.silences._WRITE_LIMIT_S", 1.0)
    (tmp_path / "other").mkdir()
    with FakeNode() as edge:
        async with (
            rig_of(tmp_path, {"edge-1": edge}) as rig,
            rig_of(tmp_path / "other", {"edge-1": edge}) as bad,
        ):
            await execute(
                bad, "CREATE TRIGGER full BEFORE INSERT ON silence BEGIN SELECT RAISE(FAIL, 'no'); END"
            )
            savers: Any = SimpleNamespace(savers=[rig.saver, bad.saver])
            told: list[object] = []
            silences = Silences(savers, rig.reader, told.append)
            one = Silence("s1", ["kind=node"], "r", "ops", 1.0, time.time() + 60)
            with pytest.raises(StoreError):
                await silences.change(one)
            await execute(bad, "DROP TRIGGER full")
            for each in (rig, bad):
                await until(lambda each=each: ended_in(each) == ["s1"])  # type: ignore[misc]
            await silences.refresh()
            assert told == []


async def test_a_silence_that_another_worker_could_not_begin_is_ended_by_all_and_named(
    tmp_path: Path,
) -> None:
    asked: list[Silence] = []

    async def ask_slots(_method: str, _path: str, body: bytes) -> list[Any]:
        asked.append(msgspec.json.decode(body, type=Silence))
        raise StoreError("a worker does not answer")

    async def read(_request: object) -> bytes:
        return json.dumps(ASKED).encode()

    with FakeNode() as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            silences, _ = silences_of(rig)
            bodies: Any = SimpleNamespace(read=read)
            peers: Any = SimpleNamespace(ask_slots=ask_slots)
            request: Any = {TOKEN: SimpleNamespace(name="ops")}
            unused: Any = None
            routes = silencing.SilenceRoutes(silences, list, bodies, unused, audit=unused, peers=peers)
            with pytest.raises(StoreError) as caught:
                await routes.begin(request)
            [name] = ended_in(rig)
            text = f"silence {name} was not begun in every file, and is ended: a worker does not answer"
            assert str(caught.value) == text
            first, second = asked
            assert first.id == second.id == name
            assert second.until <= time.time() < first.until


def ended_in(rig: Rig) -> list[str]:
    return [one.id for one in rig.store.silences().values() if one.until <= time.time()]


async def execute(rig: Rig, statement: str) -> None:
    await asyncio.to_thread(rig.store._file.writer.execute, statement)  # type: ignore[union-attr]


async def test_a_store_that_was_emptied_is_told_again(tmp_path: Path) -> None:
    with FakeNode() as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            silences, told = silences_of(rig)
            one = Silence("s1", ["kind=node"], "r", "ops", 1.0, time.time() + 60)
            await silences.change(one)
            await execute(rig, "DELETE FROM silence")
            await silences.refresh()
            await until(lambda: rig.store.silences() == {"s1": one})
            assert len(told) == 1


def one_of_each_worker(engine: SupervisedEngine) -> list[str]:
    """Hand a task to each of two workers: the other one is stopped meanwhile."""
    given = []
    for worker in engine.workers():
        os.kill(int(worker["pid"]), signal.SIGSTOP)
        try:
            given.append(engine.submit([f"{URL}{worker['pid']}"], due_s=0.1))
        finally:
            os.kill(int(worker["pid"]), signal.SIGCONT)
    return given


@pytest.mark.slow
def test_all_workers_keep_a_silence_over_a_kill_and_a_reload(tmp_path: Path, receiver: Receiver) -> None:
    edge = FakeNode()
    edge.start()
    edge.stop()
    tables = f'[alert]\nurl = "{receiver.url}"\n' + fake_table(edge.url, name="edge-1", driver="ats")
    with SupervisedEngine(tmp_path, tables, workers=2, drain_timeout_s=1) as engine:
        answer = engine.request("POST", PATH, ASKED)
        assert answer[0] == 200, answer
        first = engine.workers()[0]
        os.kill(int(first["pid"]), signal.SIGKILL)
        wait_until(
            lambda: len(engine.workers()) == 2 and engine.workers()[0]["pid"] != first["pid"],
            what="a new worker",
        )
        engine.reload()
        for task_id in one_of_each_worker(engine):
            engine.wait_for(task_id, "partial")
        wait_until(lambda: engine.log().count('"silenced":') == 2, what="the silenced alert of each worker")
        assert silenced_by(engine) == ["node:edge-1"]
        assert receiver.posts == []
        made = json.loads(answer[2])
        assert engine.request("DELETE", f"{PATH}/{made['id']}")[0] == 200
        receiver.wait_for_posts(2)  # each worker says so for itself, as without a silence
        assert all("still on since" in post["changed"] for post in receiver.documents())


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.mark.redis
def test_every_engine_of_one_redis_keeps_a_silence(
    tmp_path: Path, redis: RedisServer, receiver: Receiver
) -> None:
    edge = FakeNode()
    edge.start()
    edge.stop()
    tables = f'[store]\nurl = "{redis.url}"\ntakeover_s = 2\n[alert]\nurl = "{receiver.url}"\n'
    tables += fake_table(edge.url, name="edge-1", driver="ats")
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    one, other = (EngineProcess(tmp_path / name, tables, name=name) for name in ("one", "other"))
    with one, other:
        made = json.loads(one.request("POST", PATH, ASKED)[2])
        wait_until(lambda: other.get(PATH)["silences"], what="the other engine knowing of it")
        other.wait_for(other.submit([URL], due_s=0.1), "partial")
        wait_until(lambda: silenced_by(other) == ["node:edge-1"], what="the silenced alert")
        other.kill()
        other.start()
        assert not [post for post in receiver.documents() if post["key"] == "node:edge-1"]
        assert one.request("DELETE", f"{PATH}/{made['id']}")[0] == 200
        wait_until(lambda: other.get(PATH)["silences"][0]["state"] == "ended", what="the other ending it")


def test_there_is_a_most_of_silences_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silencing, "SILENCES_MAX", 1)

    async def scenario() -> None:
        with FakeNode() as edge:
            async with engine_in_loop.running(tmp_path, edge.url) as (_, port):
                for status in (0, 2):
                    words = ["silence", "kind=node", "--for", "1h", "--reason", "r"]
                    url = f"http://127.0.0.1:{port}"
                    assert await asyncio.to_thread(main, [*words, "--engine", url]) == status

    engine_in_loop.run(scenario)
