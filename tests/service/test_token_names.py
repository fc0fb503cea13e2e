"""Names of tokens on their way between two workers: whatever is in a name, nobody acts as somebody else."""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from engine.tasks.shards import slot_of
from tests.fakes.node import FakeNode, Held
from tests.rigs.engine_process import fake_table
from tests.rigs.raw_client import RawClient, post
from tests.rigs.supervised_engine import SupervisedEngine
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORKERS = 2
NAMES = ["ops", "ops#shop", "ops&token=ops", "ops+shop", "ops%23", "ops shop", "öps"]
"""Each has a site of its own, so each sees and cancels its own tasks only."""


def tables() -> str:
    text = '[[site]]\nhost = "*.example.com"\n'
    for name in NAMES:
        sha256 = hashlib.sha256(secret(name).encode()).hexdigest()
        keys = {"name": name, "sha256": sha256, "scopes": ["submit", "read"], "sites": ["img.example.com"]}
        text += "[[auth.tokens]]\n" + "".join(f"{key} = {json.dumps(keys[key])}\n" for key in keys)
    return text


def secret(name: str) -> str:
    return f"secret-{NAMES.index(name)}"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SupervisedEngine]:
    """Two workers, and a cache that answers nothing."""
    held = Held()
    with (
        FakeNode(held) as node,
        SupervisedEngine(
            tmp_path, tables() + fake_table(node.url, name="edge-1"), workers=WORKERS, drain_timeout_s=1
        ) as running,
    ):
        yield running
        held.released.set()
    assert "Traceback" not in running.log()


@pytest.fixture
def clients(engine: SupervisedEngine) -> Iterator[list[RawClient]]:
    """A connection to each worker."""
    found: dict[int, RawClient] = {}
    with contextlib.ExitStack() as stack:

        def both() -> bool:
            client = stack.enter_context(RawClient(engine.port))
            pid = client.ask(b"GET /version HTTP/1.1\r\nHost: e\r\n\r\n").json["pid"]
            found.setdefault(pid, client)
            return len(found) == WORKERS

        wait_until(both, what="connections to both workers")
        yield list(found.values())


def ask(client: RawClient, method: str, task_id: str, name: str) -> tuple[int, Any]:
    lines = f"Host: e\r\nAuthorization: Bearer {secret(name)}"
    answer = client.ask(f"{method} /v1/engine/task/{task_id} HTTP/1.1\r\n{lines}\r\n\r\n".encode())
    return answer.status, answer.json


def ids(prefix: str) -> list[str]:
    """Return a task id of each worker."""
    names = (f"{prefix}-{number}" for number in range(100))
    found = {slot_of(name, WORKERS): name for name in names}
    return [found[slot] for slot in range(WORKERS)]


def test_no_token_acts_as_another_through_any_worker(
    engine: SupervisedEngine, clients: list[RawClient]
) -> None:
    """Handing in, finding and cancelling, each by the worker that the task is not with, too."""
    for number, name in enumerate(NAMES):
        for place, client in enumerate(clients):
            for task_id in ids(f"t{number}-{place}"):
                body = {"targets": ["http://img.example.com/x"], "id": task_id}
                answer = client.ask(post(body, f"Authorization: Bearer {secret(name)}"))
                assert answer.status == 202, (name, answer)
                for other in NAMES:
                    if other != name:
                        for through in clients:
                            assert ask(through, "DELETE", task_id, other)[0] == 404, (name, other)
                assert ask(client, "GET", task_id, name)[1]["state"] == "running"
                assert ask(client, "DELETE", task_id, name)[1]["state"] == "cancelled", name


def test_the_log_says_once_which_names_the_next_version_refuses(engine: SupervisedEngine) -> None:
    for name in NAMES[1:]:
        shown = json.dumps(f"token {name!r}: the next version refuses this name", ensure_ascii=False)[1:-1]
        assert engine.log().count(shown) == 1, name
    assert "token 'ops':" not in engine.log()
