"""Moving everything from one store to another, and going on after an interruption."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main as cli
from engine.cli.migration.embedded import EmbeddedSide
from engine.cli.migration.migrate import Holds, migrate
from engine.cli.migration.opening import open_side
from engine.cli.migration.side import Side
from engine.config.tables import Config, EngineConfig
from engine.errors import ConfigError, StoreError
from engine.store.layout import check_layout
from engine.store.redis.store import RedisStore
from engine.store.sqlite.store import SqliteStore
from engine.tasks.records import (
    Accepted,
    Batch,
    Callback,
    Committed,
    Joined,
    Parked,
    ParkedRow,
    Pause,
    Silence,
)
from engine.tasks.words import Operation
from tests.rigs.redis_servers import RedisCluster, RedisServer

CONFIG = Config()


def document(name: str, state: str = "done") -> bytes:
    made = {"task_id": name, "state": state, "created_at": 1.0, "updated_at": 1.0, "digest": "ab"}
    return json.dumps(made).encode()


def row(target: str, task: str, *, node: str = "n", after: str = "") -> Parked:
    return Parked(node, int(Operation.PURGE_URL), target, task, after, 5.0)


def fill(side: Side) -> None:
    """Put something of everything in."""
    with side.opened():
        side.write(Batch(documents={f"t{number}": document(f"t{number}") for number in range(1200)}))
        side.write(Batch(pauses=[Pause("n", "ops", 7.0), Pause("o", "ops", 8.0, is_paused=False)]))
        side.write(Batch(silences=[Silence("s1", ["kind=node"], "works", "ops", 7.0, 9.0)]))
        for name in ("late-1", "late-2"):
            rows = [
                row(f"http://a/{place}", name, node=node, after="p,q" if place % 2 else "")
                for place in range(700)
                for node in ("n", "o")
            ]
            side.write(Batch(documents={name: document(name, "partial")}, parked=rows))
        for name in ("live-1", "live-2"):
            plan = name.encode() if name == "live-1" else b""  # the other is of a version that kept none
            accepted = Accepted(name, 1000.0, 60.0, b"\x01", b'{"targets":["http://a/"]}', "tok", plan)
            plans = {plan: b"its plan"} if plan else {}
            side.write(
                Batch(accepted=[accepted], plans=plans, callbacks=[Callback(0, name, "http://hook/", "{}")])
            )
            if not side.is_shared:
                side.write(Batch(parked=[row("http://a/", name, node="m")]))  # it is worked from the start


FILLED = Holds(documents=1202, unfinished=2, delayed={"n": 1400, "o": 1400}, callbacks=2)


def content(side: Side, *, in_order: bool = True) -> dict[str, list[Any]]:
    """Return all that a side holds."""
    with side.opened():
        found: dict[str, list[Any]] = {
            "documents": [json.loads(text) for page in side.documents() for text in page],
            "unfinished": [record for records in side.unfinished() for record in records],
            "rows": [one for node in side.nodes() for one in side.rows(node)],
            "callbacks": [(one.task_id, one.url, one.body) for one in side.callbacks()],
            "pauses": side.pauses(),
            "silences": side.silences(),
        }
        found["plans"] = sorted(side.plans(found["unfinished"]).items())
        assert len(found["plans"]) in {0, 1}
    if not in_order:
        for some in found.values():
            some.sort(key=str)
    return found


def side(folder: Path, url: str, savers: int = 1) -> Side:
    return open_side(url, Config(engine=EngineConfig(saver_count=savers)), folder, is_target=True)


def test_everything_arrives_in_its_order(tmp_path: Path) -> None:
    source, target = side(tmp_path, "sqlite:"), side(tmp_path, "sqlite:other")
    fill(source)
    before = content(source)
    had, has = migrate(source, target, tmp_path)
    assert had == has == FILLED
    assert content(target) == before == content(source)


def test_host_wide_rows_arrive_as_what_they_stand_for(tmp_path: Path) -> None:
    source, target = side(tmp_path, "sqlite:"), side(tmp_path, "sqlite:other")
    fill(source)
    before = content(source, in_order=False)
    assert isinstance(source, EmbeddedSide)
    with source.opened():
        [store] = source.stores
        by_task: dict[str, list[ParkedRow]] = {}
        for one in store.oldest_parked("n", 10_000):
            by_task.setdefault(one.task_id, []).append(one)
        several = [rows for rows in by_task.values() if len(rows) > 1]
        store.commit(Batch(joined=[Joined(rows, int(Operation.PURGE_HOST), "a") for rows in several]))
        assert store.host_rows("n", 10)
    had, has = migrate(source, target, tmp_path)
    assert had == has == FILLED
    assert content(target, in_order=False) == before


def test_another_number_of_files_takes_the_same_tasks(tmp_path: Path) -> None:
    check_layout(tmp_path / "old", 2, 2)
    source, target = side(tmp_path, "sqlite:old"), side(tmp_path, "sqlite:new", savers=3)
    assert isinstance(source, EmbeddedSide)
    assert isinstance(target, EmbeddedSide)
    assert (len(source.stores), len(target.stores)) == (4, 3)
    fill(source)
    had, has = migrate(source, target, tmp_path)
    assert had == has == FILLED
    with target.opened():
        assert all(target.stores[target.of(f"t{number}")].document(f"t{number}") for number in range(1200))


@pytest.mark.parametrize("last", range(1, 9))
def test_after_an_interruption_it_goes_on_and_nothing_is_twice(
    tmp_path: Path, last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends at its *last* commit, which is written but not answered; then it runs again."""
    source, target = side(tmp_path, "sqlite:"), side(tmp_path, "sqlite:other")
    fill(source)
    commits = 0
    commit = SqliteStore.commit

    def fail_after(store: SqliteStore, batch: Batch) -> Committed:
        nonlocal commits
        done = commit(store, batch)
        commits += 1
        if commits == last:
            raise StoreError("the power is gone")
        return done

    monkeypatch.setattr(SqliteStore, "commit", fail_after)
    with pytest.raises(StoreError, match="power"):
        migrate(source, target, tmp_path)
    had, has = migrate(source, target, tmp_path)
    assert had == has
    assert content(target) == content(source)


def test_a_target_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    source, target = side(tmp_path, "sqlite:"), side(tmp_path, "sqlite:other")
    fill(source)
    with target.opened():
        target.write(Batch(documents={"x": document("x")}))
    with pytest.raises(StoreError, match=r"sqlite:other holds tasks already.*has to be empty"):
        migrate(source, target, tmp_path)
    assert len(content(target)["documents"]) == 1


def test_an_engine_that_still_runs_stops_it(tmp_path: Path) -> None:
    source, target = side(tmp_path, "sqlite:"), side(tmp_path, "sqlite:other")
    fill(source)
    with side(tmp_path, "sqlite:").opened(), pytest.raises(StoreError, match="another engine is using it"):
        migrate(source, target, tmp_path)


def test_what_is_not_there_or_not_known_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no embedded store"):
        open_side("sqlite:", CONFIG, tmp_path, is_target=False)
    with pytest.raises(ConfigError, match=r"'mysql://x' is no store; known: sqlite:, .*redis"):
        open_side("mysql://x", CONFIG, tmp_path, is_target=False)


def test_the_command_prints_what_both_sides_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(side(tmp_path / "var", "sqlite:"))
    config = tmp_path / "engine.toml"
    config.write_text(f'[engine]\ndata_dir = "{tmp_path}/var"\n')
    words = ["migrate", "--config", str(config), "--from", "sqlite:", "--to", "sqlite:new", "--json"]
    assert cli.main(words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["from"] == printed["to"]
    holds = {"documents": 1202, "unfinished": 2, "delayed": 2800, "callbacks": 2, "history": 0}
    assert printed["to"] == holds


def test_the_target_is_for_as_many_workers_as_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(side(tmp_path / "var", "sqlite:"))
    config = tmp_path / "engine.toml"
    config.write_text(f'[engine]\ndata_dir = "{tmp_path}/var"\n')
    words = ["migrate", "--config", str(config), "--from", "sqlite:", "--to"]
    assert cli.main([*words, "sqlite:new", "--workers", "3"]) == 0
    check_layout(tmp_path / "var" / "new", 3, 1)
    capsys.readouterr()
    assert cli.main([*words, "sqlite:new", "--workers", "2"]) == 1
    assert "is of an engine with workers=3 saver_count=1" in capsys.readouterr().err
    assert cli.main([*words, "redis://127.0.0.1:1", "--workers", "2"]) == 2
    assert "--workers: only files are of a number of workers" in capsys.readouterr().err


@pytest.fixture(scope="module", params=["redis", "cluster"])
def servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer | RedisCluster]:
    kind = {"redis": RedisServer, "cluster": RedisCluster}[request.param]
    with kind(tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture
def redis_url(servers: RedisServer | RedisCluster) -> str:
    servers.flush()
    return servers.url


@pytest.mark.redis
def test_everything_goes_to_redis_and_back(tmp_path: Path, redis_url: str) -> None:
    source, there, back = (side(tmp_path, url) for url in ("sqlite:", redis_url, "sqlite:back"))
    fill(source)
    assert migrate(source, there, tmp_path) == (FILLED, FILLED)
    assert content(side(tmp_path, redis_url), in_order=False) == content(source, in_order=False)
    assert migrate(side(tmp_path, redis_url), back, tmp_path) == (FILLED, FILLED)
    assert content(back, in_order=False) == content(source, in_order=False)


@pytest.mark.redis
def test_to_redis_it_goes_on_after_any_interruption(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt gets one commit further; the last one finishes."""
    source = side(tmp_path, "sqlite:")
    fill(source)
    limit = 0
    commits = 0
    commit = RedisStore.commit

    def fail_after(store: RedisStore, batch: Batch) -> Committed:
        nonlocal commits
        done = commit(store, batch)
        commits += 1
        if commits == limit:
            raise StoreError("the power is gone")
        return done

    monkeypatch.setattr(RedisStore, "commit", fail_after)
    for limit in range(1, 11, 2):  # noqa: B007 - read by fail_after
        commits = 0
        with pytest.raises(StoreError, match="power"):
            migrate(source, side(tmp_path, redis_url), tmp_path)
    limit = -1
    assert migrate(source, side(tmp_path, redis_url), tmp_path) == (
        FILLED,
        FILLED,
    )
