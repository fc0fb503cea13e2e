"""Moving everything from one store to another, and going on after an interruption."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine import cli
from engine.config import Config, EngineConfig
from engine.errors import ConfigError, StoreError
from engine.migrate import Holds, Side, migrate, open_side
from engine.model import Operation
from engine.store import Accepted, Batch, Callback, Committed, Parked
from engine.store.layout import check_layout
from engine.store.sqlite import SqliteStore

CONFIG = Config()


def document(name: str, state: str = "done") -> bytes:
    return json.dumps({"task_id": name, "state": state, "updated_at": 1.0, "digest": "ab"}).encode()


def row(target: str, task: str, *, node: str = "n", after: str = "") -> Parked:
    return Parked(node, int(Operation.PURGE_URL), target, task, after, 5.0)


def fill(side: Side) -> None:
    """Put something of everything in."""
    with side.opened():
        for number in range(1200):
            name = f"t{number}"
            store = side.stores[side.of(name)]
            store.commit(Batch(documents={name: document(name)}))
        for name in ("late-1", "late-2"):
            rows = [row(f"http://a/{place}", name, after="p" if place % 2 else "") for place in range(700)]
            batch = Batch(documents={name: document(name, "partial")}, parked=rows)
            side.stores[side.of(name)].commit(batch)
        for name in ("live-1", "live-2"):
            accepted = Accepted(name, 1000.0, 60.0, b"\x01", b'{"targets":["http://a/"]}', "tok")
            batch = Batch(accepted=[accepted], parked=[row("http://a/", name, node="m")])
            side.stores[side.of(name)].commit(batch)
            side.stores[side.of(name)].commit(Batch(callbacks=[Callback(0, name, "http://hook/", "{}")]))


def content(side: Side) -> dict[str, Any]:
    """Return all that a side holds, in order."""
    found: dict[str, Any] = {"documents": [], "journal": [], "rows": [], "callbacks": []}
    with side.opened():
        for store in side.stores:
            page, before = store.documents(None, 2**62, 10_000)
            assert not before
            found["documents"] += [json.loads(text) for text in page]
            found["journal"] += [record for _, records in store.journal() for record in records]
            without = store.orphans()
            found["rows"] += [
                (one.node, one.target, one.task_id, one.after, one.parked_at)
                for node in store.depths()
                for one in store.parked_of(node, 10_000)
                if one.task_id not in without
            ]
            found["callbacks"] += [(one.task_id, one.url, one.body) for one in store.pending_callbacks()]
    return found


def side(folder: Path, url: str, savers: int = 1) -> Side:
    return open_side(url, Config(engine=EngineConfig(saver_count=savers)), folder, is_target=True)


def test_everything_arrives_in_its_order(tmp_path: Path) -> None:
    source, target = side(tmp_path, "sqlite:"), side(tmp_path, "sqlite:other")
    fill(source)
    before = content(source)
    had, has = migrate(source, target, tmp_path)
    assert had == has == Holds(documents=1202, unfinished=2, delayed={"n": 1400}, callbacks=2)
    assert content(target) == before == content(source)


def test_another_number_of_files_takes_the_same_tasks(tmp_path: Path) -> None:
    check_layout(tmp_path / "old", 2, 2)
    source, target = side(tmp_path, "sqlite:old"), side(tmp_path, "sqlite:new", savers=3)
    assert (len(source.stores), len(target.stores)) == (4, 3)
    fill(source)
    had, has = migrate(source, target, tmp_path)
    assert had == has
    assert had.documents == 1202
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
        target.stores[0].commit(Batch(documents={"x": document("x")}))
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
    with pytest.raises(ConfigError, match=r"'mysql://x' is no store; known: 'sqlite:'"):
        open_side("mysql://x", CONFIG, tmp_path, is_target=False)


def test_the_command_prints_what_both_sides_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(side(tmp_path / "var", "sqlite:"))
    config = tmp_path / "engine.toml"
    config.write_text(f'[engine]\ndata_dir = "{tmp_path}/var"\n')
    words = ["migrate", "--config", str(config), "--from", "sqlite:", "--to", "sqlite:new", "--json"]
    assert cli.main(words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["from"] == printed["to"]
    assert printed["to"] == {"documents": 1202, "unfinished": 2, "delayed": 1400, "callbacks": 2}
