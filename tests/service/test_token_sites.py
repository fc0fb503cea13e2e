"""What a token with sites of its own sees: the tasks that it handed in, in whatever state they are."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.node import FakeNode, Held
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

CLIENTS = {
    "one": {"scopes": ["submit", "read"], "sites": ["img.example.com"]},
    "two": {"scopes": ["submit", "read"], "sites": ["img.example.com"]},
    "boss": {"scopes": ["submit", "read", "admin"], "sites": ["img.example.com"]},
    "free": {"scopes": ["submit", "read"]},
}
TABLES = '[[site]]\nhost = "*.example.com"\n' + "".join(
    "[[auth.tokens]]\n"
    + "".join(
        f"{key} = {json.dumps(value)}\n"
        for key, value in {
            "name": name,
            "sha256": hashlib.sha256(f"secret-{name}".encode()).hexdigest(),
            **keys,
        }.items()
    )
    for name, keys in CLIENTS.items()
)
SEES = {"one": {"one"}, "two": {"two"}, "boss": set(CLIENTS), "free": set(CLIENTS)}


class Clients:
    """One client for each token."""

    def __init__(self, engine: EngineProcess) -> None:
        self.engine = engine
        self.ids: dict[str, str] = {}

    def ask(self, name: str, method: str, path: str, body: object = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer secret-{name}"}
        status, _, answer = self.engine.request(method, path, body, headers)
        return status, json.loads(answer)

    def listed(self, name: str) -> set[str]:
        """Return the tasks of all pages of the list."""
        found: set[str] = set()
        cursor = ""
        while True:
            status, page = self.ask(name, "GET", f"/v1/engine/tasks?limit=2&cursor={cursor}")
            assert status == 200
            found |= {task["task_id"] for task in page["tasks"]}
            assert not any("token" in task for task in page["tasks"])
            cursor = page["cursor"]
            if not cursor:
                return found

    def check(self, state: str) -> None:
        """Everyone sees its own tasks, and those without limits see all."""
        for name, seen in SEES.items():
            for other, task_id in self.ids.items():
                status, task = self.ask(name, "GET", f"/v1/engine/task/{task_id}")
                assert status == (200 if other in seen else 404), (name, other)
                assert task.get("state") == (state if other in seen else None)
                assert "token" not in task
                if other not in seen:
                    assert task["detail"].startswith(f"there is no task '{task_id}'")
                    assert self.ask(name, "DELETE", f"/v1/engine/task/{task_id}")[0] == 404
            assert self.listed(name) == {self.ids[other] for other in seen}

    def wait_for(self, task_id: str, state: str) -> None:
        path = f"/v1/engine/task/{task_id}"
        wait_until(lambda: self.ask("free", "GET", path)[1]["state"] == state, timeout_s=40, what=state)


@pytest.mark.parametrize("waiting", ["running", "partial"])
def test_a_token_with_sites_sees_only_what_it_handed_in(tmp_path: Path, waiting: str) -> None:
    """In memory (the cache does not answer), in the store (it is gone), settled, cancelled and later."""
    with FakeNode() as node, EngineProcess(tmp_path, TABLES + fake_table(node.url, name="edge-1")) as engine:
        clients = Clients(engine)
        held = Held()
        if waiting == "running":
            node.script = held
        else:
            node.stop()
        for name in CLIENTS:
            body = {"targets": [f"http://img.example.com/{name}"]}
            status, answer = clients.ask(name, "POST", "/v1/engine/task", body)
            assert status == 202
            clients.ids[name] = answer["task_id"]
        for _ in range(2):
            for task_id in clients.ids.values():
                clients.wait_for(task_id, waiting)
            clients.check(waiting)
            engine.kill()
            engine.start()
        if waiting == "running":
            held.released.set()
        else:
            node.start()
        for task_id in clients.ids.values():
            clients.wait_for(task_id, "done")
        clients.check("done")
        assert engine.stop() == 0
        engine.start()
        clients.check("done")
        held.released.clear()
        if waiting == "partial":
            node.stop()
        for canceller in ("one", "boss", "free"):
            body = {"targets": ["http://img.example.com/x"]}
            task_id = clients.ask("one", "POST", "/v1/engine/task", body)[1]["task_id"]
            clients.wait_for(task_id, waiting)
            assert clients.ask("two", "DELETE", f"/v1/engine/task/{task_id}")[0] == 404
            assert clients.ask(canceller, "DELETE", f"/v1/engine/task/{task_id}")[0] == 200
            assert clients.ask("two", "GET", f"/v1/engine/task/{task_id}")[0] == 404
            assert clients.ask("one", "GET", f"/v1/engine/task/{task_id}")[1]["state"] == "cancelled"
        held.released.set()


def test_an_id_of_another_client_is_taken_whatever_became_of_its_task(tmp_path: Path) -> None:
    """In memory, settled in the store, after a restart; the client that has it is answered with its task."""
    body = {"id": "mine", "targets": ["http://img.example.com/a"]}
    path = "/v1/engine/task"

    def check(clients: Clients, state: str) -> None:
        for name in ("two", "boss"):
            status, answer = clients.ask(name, "POST", path, body)
            assert (status, answer["field"]) == (409, "id")
            assert "another client" in answer["detail"]
        for name in ("one", "free"):
            status, answer = clients.ask(name, "POST", path, body)
            assert (status, answer["state"]) == (200, state)

    with FakeNode() as node, EngineProcess(tmp_path, TABLES + fake_table(node.url, name="edge-1")) as engine:
        clients = Clients(engine)
        held = Held()
        node.script = held
        assert clients.ask("one", "POST", path, body)[0] == 202
        clients.wait_for("mine", "running")
        check(clients, "running")
        engine.kill()
        engine.start()
        clients.wait_for("mine", "running")
        check(clients, "running")
        held.released.set()
        clients.wait_for("mine", "done")
        check(clients, "done")
        assert engine.stop() == 0
        engine.start()
        check(clients, "done")
        open_to_all = {"id": "free", "targets": ["http://img.example.com/a"]}
        assert clients.ask("free", "POST", path, open_to_all)[0] == 202
        assert clients.ask("one", "POST", path, open_to_all)[0] == 409
