"""What an earlier version has stored is read and worked to its end; `tests.rigs.stored` records it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.node import FakeNode
from tests.rigs.engine_process import EngineProcess
from tests.rigs.redis_servers import RedisServer
from tests.rigs.stored import LAYERS, YEARS, node_tables

RECORDED = [
    pytest.param(path, marks=[pytest.mark.slow] if path.parts[-2:] == ("500111f", "redis") else [])
    for path in sorted(Path(__file__).with_name("data").glob("*/*"))
]


@pytest.fixture
def caches() -> Iterator[dict[str, FakeNode]]:
    """All nodes of the recording, back and well."""
    nodes = {name: FakeNode() for name in LAYERS}
    for node in nodes.values():
        node.start()
    yield nodes
    for node in nodes.values():
        node.stop()


@pytest.fixture(params=RECORDED, ids=lambda path: f"{path.parent.name}-{path.name}")
def recorded(request: pytest.FixtureRequest) -> Path:
    """The folder of one recording."""
    return Path(request.param)


def is_without_history(recorded: Path) -> bool:
    """Tell whether a recording is of a version that kept no history."""
    return recorded.parent.name == "ea3d3bc"


@pytest.fixture
def store(recorded: Path, tmp_path: Path) -> Iterator[str]:
    """Lay the recorded data out; give the table that names its store."""
    if recorded.name == "sqlite":
        shutil.copytree(recorded / "var", tmp_path / "var")
        yield ""
        return
    redis = RedisServer(tmp_path, fsync="none")
    shutil.copy(recorded / "dump.rdb", redis.folder)
    with redis:
        yield f'[store]\nurl = "{redis.url}"\n'


def _with_the_fields_of(before: Any, now: Any) -> Any:
    """Return what *before* has of *now*, at any depth: later versions add fields."""
    if isinstance(before, dict) and isinstance(now, dict):
        return {key: _with_the_fields_of(before[key], now.get(key)) for key in before}
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return [_with_the_fields_of(old, new) for old, new in zip(before, now, strict=True)]
    return now


def test_stored_tasks_of_an_earlier_version_are_read_and_delivered(
    recorded: Path, store: str, caches: dict[str, FakeNode], tmp_path: Path
) -> None:
    """Settled ones are shown as they were; what waited for nodes, and what was on the wire, is done."""
    tasks: dict[str, dict[str, Any]] = json.loads((recorded / "tasks.json").read_text())
    assert len(tasks) == 16
    tables = store + node_tables(caches) + '[[callback]]\nhost = "127.0.0.1"\n'
    with EngineProcess(tmp_path, tables, history_days=3650, **YEARS) as engine:
        for task_id, task in tasks.items():
            before = task["document"]
            now = engine.wait_for(task_id, task["state"])
            assert now["total"] == before["total"], task_id
            if before["state"] == task["state"]:
                assert _with_the_fields_of(before, now) == before
            else:
                assert now["counter"] == now["total"], task_id
        found = engine.get("/v1/engine/history?limit=1000")
        assert "incomplete" not in found
        states = {task["task_id"]: task["state"] for task in found["tasks"]}
        known = {task_id: task["state"] for task_id, task in tasks.items()}
        if is_without_history(recorded):
            known = {name: state for name, state in known.items() if name in states}
            assert len(known) == 2  # what had not been stored before
        assert states == known
    paths = {name: {request.path for request in cache.requests} for name, cache in caches.items()}
    assert paths["down"] >= {f"/{number}.jpg" for number in range(5)} | {
        "/again.jpg",
        "/behind.jpg",
        "/only.jpg",
    }
    assert paths["hangs"] >= {f"/sent-{number}.jpg" for number in range(4)} | {"/sent.jpg"}
    assert "/behind.jpg" in paths["parent-1"]
    assert "/cancelled.jpg" not in paths["down"]
