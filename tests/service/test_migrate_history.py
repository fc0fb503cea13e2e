"""A migration brings the history along: what failed before it is sent again after it, to the last target."""

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main as cli
from engine.cli.migration.migrate import migrate
from engine.cli.migration.opening import open_side
from engine.cli.migration.side import Side
from engine.config.tables import Config, EngineConfig
from engine.errors import StoreError
from engine.store.history import Wanted
from engine.store.sqlite.history import SqliteHistory
from engine.tasks.blocks import close_block, open_body
from engine.tasks.records import Batch
from engine.tasks.settled import Change, Failure, SettledTasks, state_number
from engine.tasks.words import Operation, State
from tests.benchmarks.rows_history import settled
from tests.fakes.node import FakeNode, Request, answer
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.redis_servers import RedisServer

HOST = "img.example.com"
PURGE = int(Operation.PURGE_URL)


def side(folder: Path, url: str, *, savers: int = 1, days: float = 90, is_target: bool = True) -> Side:
    settings = EngineConfig(saver_count=savers, history_days=days)
    return open_side(url, Config(engine=settings), folder, is_target=is_target)


def partial(first: int, count: int) -> SettledTasks:
    """Return tasks of which the first one waits still."""
    made = settled(range(first, first + count), 1.79e9)
    made.states = bytes([state_number(State.PARTIAL)]) + made.states[1:]
    return made


def name(place: int) -> str:
    return settled([place], 0).ids[0]


def change(place: int, at: float, *failed: str) -> Change:
    state = State.PARTIAL if not failed else State.FAILED
    return Change(
        name(place), at, state_number(state), [Failure("edge-1", PURGE, one, "400") for one in failed]
    )


def fill(folder: Path) -> None:
    """Two blocks, and what is in none; of the first block one task failed in two steps."""
    made = side(folder, "sqlite:")
    with made.opened():
        [history] = made.histories
        assert isinstance(history, SqliteHistory)
        history._write(close_block([partial(0, 300)], {}), [change(0, 2e9, "http://a/1")])
        history._write(close_block([settled(range(300, 500), 1.79e9)], {}), [])
        history.take_over(partial(500, 80), [change(0, 2.1e9, "http://a/2")], {b"key": b"its text"})


def tasks_of(made: Side) -> dict[str, list[str]]:
    """Return the targets of each task that the history of a side has, and that none is there twice."""
    found: dict[str, list[str]] = {}
    for history in made.histories:
        records = [*history.unpacked().tasks]
        for head in history.heads(Wanted(), None, 1000):
            records += open_body(history.block(head.key)[1])[0]
        for record in records:
            lines = record.targets.split("\n")
            assert not found.keys() & set(record.ids)
            found |= {task_id: [line] for task_id, line in zip(record.ids, lines, strict=True)}
    return found


def failures(made: Side, place: int) -> list[str]:
    """Return what late delivery could not do of a task, in its order."""
    history = made.histories[made.of(name(place)) if len(made.histories) > 1 else 0]
    changes = [*history.changes([name(place)]), *history.unpacked().changes]
    return [one.target for each in changes if each.task_id == name(place) for one in each.failures]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.mark.redis
def test_all_of_it_goes_to_redis_and_back_and_to_more_files(tmp_path: Path, server: RedisServer) -> None:
    server.flush()
    fill(tmp_path)
    began_at: set[float] = set()
    steps = [("sqlite:", 1), (server.url, 1), ("sqlite:back", 1), ("sqlite:more", 3)]
    for (source, savers), (target, others) in itertools.pairwise(steps):
        said: list[str] = []
        began, ends = side(tmp_path, source, savers=savers), side(tmp_path, target, savers=others)
        _, has = migrate(began, ends, tmp_path, say=said.append)
        assert has.history == 580, said
        ends = side(tmp_path, target, savers=others)
        with ends.opened():
            found = tasks_of(ends)
            assert found.keys() == {name(place) for place in range(580)}
            assert found[name(7)] == settled([7], 0).targets.split("\n")
            assert failures(ends, 0) == ["http://a/1", "http://a/2"]
            began_at = {history.complete_since() for history in ends.histories}
    assert len(began_at) == 1
    first = side(tmp_path, "sqlite:", is_target=False)
    with first.opened():
        assert began_at == {first.histories[0].complete_since()}


def test_after_an_interruption_nothing_of_it_is_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    taken = SqliteHistory.take_over
    left = 2

    def fail(self: SqliteHistory, *what: Any) -> None:
        nonlocal left
        taken(self, *what)
        left -= 1
        if not left:
            raise StoreError("the power is gone")

    monkeypatch.setattr(SqliteHistory, "take_over", fail)
    with pytest.raises(StoreError, match="power"):
        migrate(side(tmp_path, "sqlite:"), side(tmp_path, "sqlite:other"), tmp_path)
    migrate(side(tmp_path, "sqlite:"), side(tmp_path, "sqlite:other"), tmp_path)
    target = side(tmp_path, "sqlite:other")
    with target.opened():
        assert len(tasks_of(target)) == 580
        assert failures(target, 0) == ["http://a/1", "http://a/2"]


def test_a_block_that_is_damaged_is_left_out_and_told(tmp_path: Path) -> None:
    fill(tmp_path)
    source = side(tmp_path, "sqlite:")
    with source.opened():
        [history] = source.histories
        assert isinstance(history, SqliteHistory)
        assert history._file.writer is not None
        history._file.writer.execute("UPDATE block_body SET body = x'00' WHERE n = 1")
    said: list[str] = []
    _, has = migrate(side(tmp_path, "sqlite:"), side(tmp_path, "sqlite:other"), tmp_path, say=said.append)
    assert has.history == 280
    assert any("history: a block is left out" in one for one in said)


def test_a_target_with_a_history_of_its_own_is_not_written_over(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "other").mkdir()
    fill(tmp_path / "other")
    with pytest.raises(StoreError, match="holds tasks already"):
        migrate(side(tmp_path, "sqlite:"), side(tmp_path, "sqlite:other"), tmp_path)


def test_where_none_is_kept_none_is_made(tmp_path: Path) -> None:
    source = side(tmp_path, "sqlite:", days=0)
    with source.opened():
        source.write(Batch())
    said: list[str] = []
    _, has = migrate(
        side(tmp_path, "sqlite:", is_target=False), side(tmp_path, "sqlite:o"), tmp_path, say=said.append
    )
    assert has.history == 0
    assert "history: none is kept" in said[-1]
    assert not (tmp_path / "history-0.db").exists()


@pytest.mark.redis
def test_what_failed_before_it_is_retried_after_it_to_the_last_target(
    tmp_path: Path, server: RedisServer
) -> None:
    """150 targets, of which a document names a hundred: from files to Redis, and from there to files."""
    server.flush()
    is_mended = False
    got: list[str] = []

    def script(request: Request) -> Sequence[bytes]:
        if request.method == "PURGE" and request.path.startswith("/bad"):
            got.append(request.path)
        return [answer(200 if is_mended or not request.path.startswith("/bad") else 400)]

    def targets(kind: str) -> list[str]:
        return [f"http://{HOST}/bad/{kind}/{number}" for number in range(150)]

    with FakeNode(script) as node:
        nodes = fake_table(node.url, name="edge-1")
        shared = f'[store]\nurl = "{server.url}"\ntimeout_s = 1\n'
        with EngineProcess(tmp_path, nodes) as engine:
            engine.submit(targets("one"), id="one")
            assert len(engine.wait_for("one", "failed")["errors"]) == 100
        config = ["--config", str(engine.config_path)]
        assert cli.main(["migrate", *config, "--from", "sqlite:", "--to", server.url]) == 0
        with EngineProcess(tmp_path, shared + nodes, name="engine-1", data_dir=str(tmp_path / "n")) as engine:
            engine.submit(targets("two"), id="two")
            engine.wait_for("two", "failed")
            is_mended = True
            retried(engine, "one", got)
        command = ["migrate", *config, "--from", server.url, "--to", "sqlite:back"]
        assert cli.main(command) == 0
        with EngineProcess(tmp_path, nodes, data_dir=str(tmp_path / "n/back")) as engine:
            retried(engine, "two", got)
            path = f"/v1/engine/history?target={targets('one')[149]}"
            assert [one["task_id"] for one in engine.get(path)["tasks"]] == ["one.retry-1", "one"]


def retried(engine: EngineProcess, task: str, got: list[str]) -> None:
    """Retry a task; all that failed of it goes out once more, and nothing else."""
    got.clear()
    status, _, body = engine.request("POST", f"/v1/engine/task/{task}/retry")
    assert status == 202, body
    assert json.loads(body)["total"] == 150
    engine.wait_for(f"{task}.retry-1")
    assert sorted(got) == sorted(f"/bad/{task}/{number}" for number in range(150))
