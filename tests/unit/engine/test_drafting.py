"""From bodies to tasks: large ones in slices, between which the loop turns."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from engine.config.load import parse
from engine.config.tables import AuthConfig
from engine.intake.auth import Auth
from engine.intake.client import Client
from engine.intake.drafting import Drafting
from engine.intake.problems import reply_of
from engine.intake.topology import Topology
from engine.intake.validate import Validator
from engine.tasks.records import By
from tests.waiting import until

if TYPE_CHECKING:
    from engine.intake.replies import Reply
    from engine.tasks.task import Task

CONFIG = parse({"node": [{"name": "edge-1", "driver": "varnish", "url": "http://127.0.0.1:1"}]})


class Bench:
    """What makes tasks of bodies, and what came of them."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.replies: list[Reply] = []
        self.client = Client(Auth(AuthConfig(), []).check(None, "submit"), By("anonymous"))
        self.drafting = Drafting(
            asyncio.get_running_loop(),
            Validator(Topology(CONFIG), due_s=60, allows_callback=lambda _: None),
            on_drafted=self._drafted,
            refuse=lambda exc, _, *, with_hint=True: reply_of(exc, with_hint=with_hint),
        )

    def _drafted(self, task: Task, *_: Any, **__: Any) -> None:
        self.tasks.append(task)

    def submit(self, *targets: str) -> None:
        body = json.dumps({"targets": targets}).encode()
        self.drafting.submit(body, self.client, self.replies.append, is_forwarded=False)

    async def lines(self, lines: list[dict[str, object]]) -> list[dict[str, Any]]:
        body = "\n".join(map(json.dumps, lines)).encode()
        self.drafting.submit_lines(body, self.client, self.replies.append)
        await until(lambda: self.replies, "the reply to all lines")
        return [json.loads(line) for line in self.replies[0].body.splitlines()]


async def test_a_usual_task_is_made_at_once() -> None:
    bench = Bench()
    bench.submit(*(f"http://a.example/{number}" for number in range(10_000)))
    assert [len(task.targets) for task in bench.tasks] == [10_000]


async def test_a_small_task_overtakes_one_whose_targets_take_long() -> None:
    bench = Bench()
    names = [f"http://b\u00fccher-{number}.example/" for number in range(3000)]
    bench.submit(*names)
    assert bench.tasks == [], "that takes longer than a slice"
    bench.submit("http://a.example/")
    assert [len(task.targets) for task in bench.tasks] == [1]
    await until(lambda: len(bench.tasks) == 2, "the large task")
    assert bench.tasks[1].targets[0] == "http://xn--bcher-0-n2a.example/"
    assert len(bench.tasks[1].targets) == 3000


async def test_what_is_wrong_with_a_late_target_is_told_all_the_same() -> None:
    bench = Bench()
    bench.submit(*(f"http://b\u00fccher-{number}.test.example/" for number in range(3000)), "ftp://a/")
    assert bench.replies == []
    await until(lambda: bench.replies, "the refusal")
    assert "targets[3000]: scheme 'ftp'" in json.loads(bench.replies[0].body)["detail"]


async def test_many_wrong_lines_are_answered_with_one_hint() -> None:
    """To look for the nearest known name takes longer than to take a task in."""
    bench = Bench()
    count = 2000
    answers = await bench.lines([{"targets": ["http://a/"], "nodes": [f"edge-{n}x"]} for n in range(count)])
    assert [answer["line"] for answer in answers] == list(range(1, count + 1))
    assert "did you mean 'edge-1'?" in answers[0]["detail"]
    assert answers[1]["detail"] == "line 2: nodes: 'edge-1x' is not configured"
    assert sum("did you mean" in answer["detail"] for answer in answers) == 1
