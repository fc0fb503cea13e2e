"""The client for programs, at real sockets: several engines, refusals, waits; blocking and asyncio alike."""

from __future__ import annotations

import asyncio
import inspect
import socket
from typing import TYPE_CHECKING, Any

import pytest

from engine.client import AsyncClient, Client, RefusedError, StillRunningError, Submitted, UnreachableError
from tests.fakes.certificate import make_certificate
from tests.fakes.engine import FakeEngine, problem, task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DEAD = "http://127.0.0.1:1"
URL = "http://img.example.com/a.jpg"
OF_CLIENT = ("total_timeout_s", "read_timeout_s", "token", "token_file", "ca_file")


def ask_blocking(engines: list[str], method: str, *args: object, **options: Any) -> Any:
    given = {key: options.pop(key) for key in OF_CLIENT if key in options}
    with Client(engines, **given) as client:
        return getattr(client, method)(*args, **options)


def ask_async(engines: list[str], method: str, *args: object, **options: Any) -> Any:
    given = {key: options.pop(key) for key in OF_CLIENT if key in options}

    async def scenario() -> Any:
        async with AsyncClient(engines, **given) as client:
            return await getattr(client, method)(*args, **options)

    return asyncio.run(scenario())


@pytest.fixture(params=[ask_blocking, ask_async], ids=["blocking", "asyncio"])
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    asked: Callable[..., Any] = request.param
    return asked


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with FakeEngine().running() as running:
        yield running


def test_both_clients_take_the_same() -> None:
    """Method for method, argument for argument."""
    names = [name for name in vars(Client) if name[0] != "_"]
    assert names == [name for name in vars(AsyncClient) if name[0] != "_"]
    for name in [*names, "__init__"]:
        takes = [
            [(one.name, one.kind, one.annotation) for one in inspect.signature(method).parameters.values()]
            for method in (getattr(Client, name), getattr(AsyncClient, name))
        ]
        assert takes[0] == takes[1], name


def test_the_second_engine_is_asked_when_the_first_is_away(
    engine: FakeEngine, ask: Callable[..., Any]
) -> None:
    assert ask([DEAD, engine.url], "purge", [URL], id="t1", soft=True, token="s3cret") == Submitted(
        task_id="t1", state="accepted", total=1
    )
    [(request, headers, body)] = engine.requests
    assert request == "POST /v1/engine/task"
    assert headers["Authorization"] == "Bearer s3cret"
    assert body == {"action": "purge", "soft": True, "targets": [URL], "id": "t1"}


def test_a_task_that_may_have_been_taken_is_sent_again_with_the_same_id(
    engine: FakeEngine, ask: Callable[..., Any]
) -> None:
    """The first engine's connections end before an answer; the second has the task, under that id."""
    with FakeEngine().running() as cut:
        cut.script["POST /v1/engine/task"] = [b""]
        assert ask([cut.url, engine.url], "purge", URL).state == "accepted"
        ids = {body["id"] for _, _, body in [*cut.requests, *engine.requests]}
    assert len(cut.requests) == 2  # a connection that ends early is tried once more
    assert len(engine.requests) == 1
    assert len(ids) == 1


def test_a_busy_engine_is_left_for_the_next(engine: FakeEngine, ask: Callable[..., Any]) -> None:
    with FakeEngine().running() as busy:
        busy.script["POST /v1/engine/task"] = [problem(503, "saver_queue is full", Retry_After="60")]
        assert ask([busy.url, engine.url], "purge", URL).state == "accepted"


def test_what_is_away_is_asked_again_until_the_time_is_over(
    engine: FakeEngine, ask: Callable[..., Any]
) -> None:
    engine.script["POST /v1/engine/task"] = [problem(503, "starting", Retry_After="0")] * 3 + [
        (202, task("a"))
    ]
    assert ask([DEAD, engine.url], "purge", URL).task_id == "a"
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1 unreachable: .*refused") as caught:
        ask([DEAD], "purge", URL, total_timeout_s=0.3)
    assert not caught.value.sent


def test_a_silent_engine_is_given_up_and_may_have_the_task(ask: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UnreachableError, match=r"no answer within 0\.1 s") as caught:
            ask([url], "status", "t1", read_timeout_s=0.1, total_timeout_s=0.2)
    assert caught.value.sent


def test_a_refusal_has_the_problem_document_and_is_not_repeated(
    engine: FakeEngine, ask: Callable[..., Any]
) -> None:
    engine.script["POST /v1/engine/task"] = [problem(409, "task 't1' exists with another body")]
    with pytest.raises(RefusedError, match="another body") as caught:
        ask([engine.url, DEAD], "purge", URL, id="t1")
    assert (caught.value.status, caught.value.problem["title"]) == (409, "No")
    assert len(engine.requests) == 1


def test_a_wait_ends_with_the_task_or_its_time(engine: FakeEngine, ask: Callable[..., Any]) -> None:
    errors = [{"node": "edge-1", "target": URL, "reason": "answered 405"}]
    engine.script["GET /v1/engine/task/a"] = [(200, task("a")), (200, task("a", "partial", errors=errors))]
    found = ask([engine.url], "wait", "a")
    assert (found.state, found.errors[0].reason, found.is_settled) == ("partial", "answered 405", False)
    engine.script["GET /v1/engine/task/b"] = [(200, task("b"))]
    with pytest.raises(StillRunningError, match=r"task b is running after 0\.1 s"):
        ask([engine.url], "wait", "b", timeout_s=0.1)


def test_an_answer_of_another_program_is_no_engines(engine: FakeEngine, ask: Callable[..., Any]) -> None:
    engine.script["GET /v1/engine/task/a"] = [(200, {"task_id": "a", "state": "done", "total": "many"})]
    with pytest.raises(UnreachableError, match="is no Task: Expected `int`, got `str`"):
        ask([engine.url], "status", "a")


def test_what_no_request_can_carry_is_an_error_of_the_caller(ask: Callable[..., Any]) -> None:
    for targets, why in (([], "1 to 10000"), ([URL] * 10_001, "1 to 10000"), (["\ud800"], "cannot be JSON")):
        with pytest.raises(ValueError, match=why):
            ask([DEAD], "purge", targets)


def test_an_engine_behind_tls_is_trusted_by_its_certificate_alone(
    tmp_path: Path, ask: Callable[..., Any]
) -> None:
    """And the token comes from a file."""
    certificate, context = make_certificate(tmp_path, "engine")
    (tmp_path / "token").write_text("s3cret\n")
    with FakeEngine().running(context) as engine:
        given = {"ca_file": certificate, "token_file": tmp_path / "token"}
        assert ask([engine.url], "purge", URL, **given).state == "accepted"
        assert engine.requests[0][1]["Authorization"] == "Bearer s3cret"
        with pytest.raises(UnreachableError, match="CERTIFICATE_VERIFY_FAILED") as caught:
            ask([engine.url], "purge", URL, total_timeout_s=0.2)
        assert not caught.value.sent
        assert len(engine.requests) == 1
    with pytest.raises(ValueError, match="holds no certificates that can be read"):
        ask([DEAD], "purge", URL, ca_file=tmp_path / "token")
    with pytest.raises(ValueError, match="the token's file cannot be read"):
        ask([DEAD], "purge", URL, token_file=tmp_path / "none")
