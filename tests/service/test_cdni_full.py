"""A trigger of two tasks at an engine that has room for one: both are taken, or none is."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from engine.doors.cdni import creating
from tests.fakes.node import FakeNode, Held
from tests.rigs.cdni import CdniEngine
from tests.rigs.engine_process import fake_table
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

URL = "https://www.example.com/a"
PATTERNS = [{"pattern": "https://www.example.com/d/*.css"}]


def test_no_trigger_is_accepted_whose_other_part_found_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the cache answers, the part that waited is taken, and the trigger with it."""
    monkeypatch.setattr(creating, "_PATIENCE_S", 0.9, raising=False)  # less than Retry-After says
    held = Held()
    with (
        FakeNode(held) as node,
        CdniEngine(
            tmp_path, fake_table(node.url, name="edge-1"), live_subtasks_max=1, saver_push_timeout_s=0.05
        ) as engine,
        ThreadPoolExecutor(1) as threads,
    ):
        upstream = engine.upstream()
        answer = upstream.trigger("purge", content_urls=[URL], content_patterns=PATTERNS)
        assert (answer.status, answer.headers.get("retry-after")) == (503, "1"), answer
        assert upstream.listed() == []
        [task] = json.loads(engine.request("GET", "/v1/engine/tasks")[2])["tasks"]
        assert task["state"] == "cancelled"
        engine.stop()

        monkeypatch.setattr(creating, "_PATIENCE_S", 20, raising=False)
        engine.start()
        before = len(node.requests)
        asked = threads.submit(upstream.trigger, "purge", content_urls=[URL], content_patterns=PATTERNS)
        wait_until(lambda: len(node.requests) > before, what="the first part being sent")
        held.released.set()
        created = asked.result(20)
        assert created.status == 201, created
        [path] = upstream.listed()
        assert upstream.wait_for(path)["status"] == "complete"
