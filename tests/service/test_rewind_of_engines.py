"""What engines of one Redis know of each other's tasks and rewinds."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from engine.cli.main import main
from engine.store.redis.open import redis_store
from engine.store.redis.rewinds import SharedRewinds
from tests.fakes.node import Act, FakeNode, always
from tests.rigs.cluster_engine import cluster_engine
from tests.rigs.redis_servers import RedisServer
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.rigs.engine_process import EngineProcess

HOST = "http://img.example.com/"

pytestmark = pytest.mark.redis


def history(engine: EngineProcess, **query: str) -> list[dict[str, Any]]:
    words = "&".join(f"{key}={quote(value, safe='')}" for key, value in query.items())
    page = engine.get(f"/v1/engine/history?{words}")
    assert "incomplete" not in page, page
    return list(page["tasks"])


def rewind(engine: EngineProcess, status: int, **asked: object) -> Any:
    answered, _, body = engine.request("POST", "/v1/engine/rewind", {"node": "edge-1", **asked})
    assert answered == status, body
    return json.loads(body)


def claims_of(redis: RedisServer, engine: str) -> SharedRewinds:
    """Return the claims of an engine that runs."""
    store = redis_store(redis.url, "nobody", region_count=16)
    consumers = [name.decode() for name in store.link.one("HKEYS", store.keys.cluster("engines"))]
    [store.consumer] = [name for name in consumers if name.startswith(f"{engine}/")]
    return SharedRewinds(store, lambda _: False)


def test_engines_show_and_rewind_what_another_works_on(tmp_path: Path) -> None:
    """A task that one node holds up has reached the other: who was restored since then needs it again."""
    with FakeNode() as edge, FakeNode(always(Act.HANG)) as slow, RedisServer(tmp_path) as redis:
        one, other = (
            cluster_engine(tmp_path, redis.url, [edge, slow], number=number, drain_timeout_s=0.2)
            for number in (0, 1)
        )
        with one, other:
            task_id = one.submit([HOST + "1"], id="held")
            later = one.submit([HOST + "2"], id="later", start_at=time.time() + 3600)
            wait_until(lambda: edge.urls == [HOST + "1"], what="its first node")
            found = history(other, target="http://IMG.example.com/1")
            assert [(task["task_id"], task["state"]) for task in found] == [(task_id, "accepted")]
            assert {node["outcome"] for node in found[0]["nodes"]} == {"sent"}
            assert [task["task_id"] for task in history(other)] == [later, task_id]
            assert history(other, target=HOST + "3") == history(other, state="done") == []
            assert [task["total"] for task in history(one)] == [2, 2]
            rewound = rewind(other, 202, since=time.time())
            assert rewound["targets"] == 1
            wait_until(lambda: edge.urls == [HOST + "1"] * 2, what="the rewind")


def test_a_rewind_is_one_for_all_engines_and_any_stops_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeNode() as edge, RedisServer(tmp_path) as redis:
        one, other = (cluster_engine(tmp_path, redis.url, [edge], number=number) for number in (0, 1))
        with one, other:
            began = time.time()
            for number in range(6):
                one.wait_for(one.submit([f"{HOST}{number}"]))
            since = time.time() - 60
            rewound = rewind(one, 202, since=since, rate_per_s=0.01)
            assert rewound["targets"] == len(rewound["tasks"]) == 6
            one.wait_for(rewound["tasks"][0])
            for engine in (one, other):
                node = engine.node("edge-1")
                assert (node["state"], node["rewind"]) == ("catching_up", rewound["rewind"])
                assert node["reason"] == f"{rewound['rewind']}: 5 targets are to be sent once more"
                assert rewound["rewind"] in rewind(engine, 409, since=since)["detail"]
            command = ["--engine", f"http://127.0.0.1:{other.port}", "--json", "rewind", "--node", "edge-1"]
            assert main([*command, "--stop"]) == 0
            stopped = json.loads(capsys.readouterr().out)
            assert stopped["rewind"] == rewound["rewind"]
            assert stopped["cancelled"] == rewound["tasks"][1:]
            for engine in (one, other):
                assert engine.node("edge-1")["state"] == "ready"
            assert one.request("DELETE", "/v1/engine/rewind?node=edge-1")[0] == 404
            assert len(rewind(other, 202, since=since, until=began)["tasks"]) == 0
            claims = claims_of(redis, "engine-0")
            assert claims.claim("edge-1", "rewind-1", since) == ""  # of one that is still beginning
            assert claims.claim("edge-1", "rewind-2", time.time()) == "rewind-1"
            assert "'rewind-1'" in rewind(other, 409, since=since)["detail"]
            status, _, body = one.request("DELETE", "/v1/engine/rewind?node=edge-1")
            assert (status, b"still being stored" in body) == (409, True)
            claims.begun("edge-1", "rewind-1", since, {})
            again = rewind(other, 202, since=since)  # the first one's, too, and it is not there any more
            for task_id in again["tasks"]:
                assert one.wait_for(task_id)["state"] == "done"
            assert one.node("edge-1")["rewind"] == ""


@pytest.mark.slow
def test_the_claim_of_an_engine_that_died_is_no_hindrance(tmp_path: Path) -> None:
    with FakeNode() as edge, RedisServer(tmp_path) as redis:
        one, other = (cluster_engine(tmp_path, redis.url, [edge], number=number) for number in (0, 1))
        with one, other:
            assert claims_of(redis, "engine-0").claim("edge-1", "rewind-1", time.time()) == ""
            assert "'rewind-1'" in rewind(other, 409, since=0)["detail"]
            one.kill()
            began = time.monotonic()
            wait_until(
                lambda: other.request("POST", "/v1/engine/rewind", {"node": "edge-1", "since": 0})[0] == 202,
                what="the end of the claim",
            )
            assert time.monotonic() - began < 15
