"""Tokens, scopes, sites and rates, as clients meet them on both lanes."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.node import FakeNode
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.raw_client import Answer, RawClient, chunked, post


def token(name: str, **keys: object) -> str:
    lines = {"name": name, "sha256": hashlib.sha256(f"secret-{name}".encode()).hexdigest(), **keys}
    return "[[auth.tokens]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())


TOKENS = (
    token("all", scopes=["submit", "read", "admin"])
    + token("reader", scopes=["read"])
    + token("writer", scopes=["submit"])
    + token("narrow", scopes=["submit"], sites=["img.example.com"])
    + token("slow", scopes=["submit"], rate_per_s=0.1, burst_count=3)
    + '[[site]]\nhost = "*.example.com"\n'
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    with FakeNode() as node:
        table = fake_table(node.url, name="edge-1", driver="ats")
        with EngineProcess(tmp_path_factory.mktemp("auth"), TOKENS + table) as running:
            yield running
            assert "secret-" not in running.log()
            assert "Traceback" not in running.log()


def submit(
    engine: EngineProcess, name: str | None, request_of: Callable[..., bytes], host: str = "img.example.com"
) -> Answer:
    lines = [] if name is None else [f"Authorization: Bearer secret-{name}"]
    if request_of is post:
        lines.append("Content-Type: application/json")
    with RawClient(engine.port) as client:
        return client.ask(request_of({"targets": [f"http://{host}/a.jpg"]}, *lines))


LANES = pytest.mark.parametrize("request_of", [post, chunked], ids=["fast lane", "aiohttp's lane"])


@LANES
def test_without_a_token_or_with_a_wrong_one_401(
    engine: EngineProcess, request_of: Callable[..., bytes]
) -> None:
    for name in (None, "nobody"):
        answer = submit(engine, name, request_of)
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.detail.startswith("authorization: ")


@LANES
@pytest.mark.parametrize("name", ["all", "writer", "narrow"])
def test_the_right_token_may(engine: EngineProcess, request_of: Callable[..., bytes], name: str) -> None:
    assert submit(engine, name, request_of).status == 202


@LANES
def test_another_scope_403(engine: EngineProcess, request_of: Callable[..., bytes]) -> None:
    answer = submit(engine, "reader", request_of)
    assert answer.status == 403
    assert "'submit'" in answer.detail
    assert "insufficient_scope" in answer.headers["www-authenticate"]


@LANES
def test_sites_of_the_engine_and_of_the_token(
    engine: EngineProcess, request_of: Callable[..., bytes]
) -> None:
    assert submit(engine, "writer", request_of, "www.example.com").status == 202
    for name, host in (
        ("narrow", "www.example.com"),
        ("writer", "example.com"),
        ("writer", "other.org"),
        ("writer", "img.example.com.other.org"),
        ("writer", "127.0.0.1"),
        ("writer", "[::1]"),
        ("writer", "localhost:9181"),
    ):
        answer = submit(engine, name, request_of, host)
        assert answer.status == 422
        assert answer.detail.startswith("targets[0]: host ")


def test_past_its_rate_429_with_retry_after(engine: EngineProcess) -> None:
    """Both lanes spend from one bucket; the others' are full."""
    answers = [submit(engine, "slow", request_of) for request_of in (post, chunked, post, post, chunked)]
    assert [answer.status for answer in answers] == [202, 202, 202, 429, 429]
    for answer in answers[3:]:
        assert 1 <= int(answer.headers["retry-after"]) <= 12
        assert "'slow'" in answer.detail
    assert submit(engine, "writer", post).status == 202


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v1/engine/stats", "read"),
        ("GET", "/v1/engine/nodes", "read"),
        ("GET", "/v1/engine/tasks", "read"),
        ("GET", "/v1/engine/task/x", "read"),
        ("HEAD", "/v1/engine/stats", "read"),
        ("GET", "/metrics", "read"),
        ("DELETE", "/v1/engine/task/x", "submit"),
        ("PUT", "/v1/engine/log-format", "admin"),
        ("POST", "/v1/engine/tasks", "submit"),
    ],
)
def test_every_route_has_its_scope(engine: EngineProcess, method: str, path: str, scope: str) -> None:
    assert engine.request(method, path)[0] == 401
    for name, scopes in (("reader", {"read"}), ("writer", {"submit"}), ("all", {"read", "submit", "admin"})):
        headers = {"Authorization": f"Bearer secret-{name}"}
        assert (engine.request(method, path, headers=headers)[0] == 403) is (scope not in scopes)


@pytest.mark.parametrize("path", ["/version", "/v1/engine/version", "/healthz", "/readyz"])
def test_version_and_health_are_for_everybody(engine: EngineProcess, path: str) -> None:
    assert engine.request("GET", path)[0] == 200


def test_a_token_is_checked_before_the_body(engine: EngineProcess) -> None:
    """Who may not hand in learns nothing about what would be valid, and does not fill the memory."""
    assert engine.request("POST", "/v1/engine/task", b"{")[0] == 401


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0"])
def test_beyond_loopback_takes_tokens_and_sites(tmp_path: Path, listen: str) -> None:
    """With both it starts; the refusals are in test_damage."""
    engine = EngineProcess(tmp_path, token("a"), listen=listen)
    engine.start(wait=False)
    assert engine.process is not None
    assert engine.process.wait(20) == 2
    assert "[[site]]" in engine.log()
