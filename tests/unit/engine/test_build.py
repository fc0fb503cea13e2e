"""The assembly: every part is there, knows the others that it needs, and nothing has been started."""

from __future__ import annotations

import dataclasses
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from engine.config.load import parse
from engine.errors import ConfigError
from engine.process.build import Parts, build
from engine.tasks.records import Accepted
from engine.tasks.shards import slot_of
from engine.workers.peers import Peers

if TYPE_CHECKING:
    from pathlib import Path

NODE = {"name": "edge-1", "driver": "ats", "url": "http://127.0.0.1:1"}
REDIS = {"url": "redis://127.0.0.1:1/0"}


def make(
    folder: Path,
    *,
    peers: Peers | None = None,
    has_predecessor: bool = False,
    store: dict[str, Any] | None = None,
    node: dict[str, Any] | None = None,
    **settings: Any,
) -> Parts:
    logs: Any = SimpleNamespace(subtasks=None, dropped=0, service="purgeline/1")
    table = {"engine": {"data_dir": str(folder), **settings}, "node": [{**NODE, **(node or {})}]}
    config = parse(table | ({"store": store} if store else {}))
    return build(config, logs, peers=peers, has_predecessor=has_predecessor)


async def test_parts_are_frozen(tmp_path: Path) -> None:
    parts = make(tmp_path)
    with pytest.raises(dataclasses.FrozenInstanceError):
        parts.delivery = parts.delivery  # type: ignore[misc]


async def test_nothing_is_opened_before_the_engine_is_prepared(tmp_path: Path) -> None:
    parts = make(tmp_path, saver_count=2)
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - ruff takes the path's own method for slow
    assert len(parts.core.savers.savers) == 2
    assert parts.readiness.not_ready_reason() == "the engine is starting"


async def test_every_figure_of_the_statistics_has_its_part(tmp_path: Path) -> None:
    shown = make(tmp_path).overview.own_stats()
    assert shown["tasks_in_cache"] == shown["saver_queue"] == shown["timer_tasks"] == 0


async def test_parts_that_send_tasks_to_the_savers_share_one_pool(tmp_path: Path) -> None:
    parts = make(tmp_path)
    assert parts.delivery.endings._savers is parts.core.savers
    assert set(parts.core.nodes) == {"edge-1"}


async def test_a_ca_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.touch()
    node = {"url": "https://127.0.0.1:1", "ca_file": str(bad)}
    with pytest.raises(ConfigError, match="node 'edge-1': ca_file: "):
        make(tmp_path, node=node)


async def test_each_slot_has_files_of_its_own_and_makes_ids_of_its_own(tmp_path: Path) -> None:
    parts = make(tmp_path, peers=Peers(1, 3, 7), saver_count=2)
    for saver, name in zip(parts.core.savers.savers, ("tasks-2.db", "tasks-3.db"), strict=True):
        assert name in repr(saver.store)
    task = parts.validator.task(b'{"targets":["http://a.com/"]}', lambda _: True)
    assert slot_of(task.id, 3) == 1


@pytest.mark.parametrize("has_predecessor", [False, True])
async def test_deliveries_are_held_while_the_worker_before_still_delivers(
    tmp_path: Path, *, has_predecessor: bool
) -> None:
    parts = make(tmp_path, peers=Peers(0, 1, 2), has_predecessor=has_predecessor)
    assert parts.delivery.redelivery._is_held == has_predecessor


async def test_an_engine_on_redis_is_in_a_cluster_and_all_its_workers_see_every_task(
    tmp_path: Path,
) -> None:
    parts = make(tmp_path, peers=Peers(0, 2, 1), store=REDIS, has_predecessor=True)
    assert parts.cluster is not None
    assert parts.delivery.redelivery.claims is not None
    assert parts.core.task_peers is None
    assert not parts.delivery.redelivery._is_held
    assert make(tmp_path).cluster is None


async def test_a_task_that_another_engine_has_accepted_is_described_from_its_body(tmp_path: Path) -> None:
    parts = make(tmp_path, store=REDIS)
    (saver,) = parts.core.savers.savers
    store: Any = saver.store
    body = b'{"targets":["http://a.com/1","http://a.com/2"]}'
    document = msgspec.json.decode(store.describe(Accepted("t", 5.0, 60.0, b"\xaa", body, "cms"), b""))
    assert (document["task_id"], document["total"], document["created_at"]) == ("t", 2, 5.0)
    assert (document["digest"], document["token"]) == ("aa", "cms")
    unreadable = msgspec.json.decode(store.describe(Accepted("u", 5.0, 60.0, b"", b"no JSON"), b""))
    assert unreadable["task_id"] == "u"
