"""The commands ``purge`` and ``prefetch``; the engine is a recorder."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any, Self

import pytest

from engine.cli import client
from engine.cli.arguments import parse
from engine.cli.exits import UsageError
from engine.cli.screen import Output
from engine.cli.submit import hand_in
from engine.client.errors import RefusedError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Engine:
    """Accepts every task, unless it is told to fail at one."""

    timeout_s = 10.0

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.failures: dict[int, Exception] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, body: bytes) -> dict[str, Any]:
        document = json.loads(body)
        self.bodies.append(document)
        if error := self.failures.get(len(self.bodies)):
            raise error
        return {"task_id": document["id"], "state": "accepted", "total": len(document["targets"])}

    def look(self, task_id: str) -> dict[str, Any]:
        return {"task_id": task_id, "state": "partial", "total": 1}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()
    monkeypatch.setattr(client, "EngineClient", lambda *_, **__: made)
    monkeypatch.setattr(sys, "stdin", None)
    return made


@pytest.fixture
def run(engine: Engine) -> Callable[..., int]:
    return lambda *words: hand_in(parse(words), Output(as_json=False))


def test_the_options_become_fields_and_what_was_not_given_is_left_out(
    engine: Engine, run: Callable[..., int]
) -> None:
    words = ["--layer", "edge", "--group", "canary", "--due", "5", "--id", "x"]
    assert run("purge", "a/k", "--key", "--soft", *words) == 0
    assert engine.bodies == [
        {
            "id": "x",
            "action": "purge",
            "kind": "key",
            "soft": True,
            "layers": ["edge"],
            "groups": ["canary"],
            "due_s": 5.0,
            "targets": ["a/k"],
        }
    ]


@pytest.mark.parametrize("way", ["skip", "refuse"])
def test_what_to_do_about_incapable_nodes_is_a_field(
    engine: Engine, run: Callable[..., int], way: str
) -> None:
    assert run("purge", "http://a/", "--prefix", "--on-incapable", way) == 0
    assert engine.bodies[0]["on_incapable"] == way


@pytest.mark.parametrize("seconds", ["5", "0"])
def test_a_rebound_is_asked_for_or_turned_off(engine: Engine, run: Callable[..., int], seconds: str) -> None:
    assert run("purge", "http://a/", "--rebound", seconds) == 0
    assert engine.bodies[0]["rebound_s"] == float(seconds)


@pytest.mark.parametrize("command", ["purge", "prefetch"])
def test_a_url_with_a_star_at_its_end_can_be_meant(
    engine: Engine, run: Callable[..., int], command: str
) -> None:
    assert run(command, "http://a/*", "--literal") == 0
    assert run(command, "http://a/*") == 0
    assert [body.get("literal") for body in engine.bodies] == [True, None]


def test_targets_come_from_words_files_and_standard_input(
    engine: Engine, run: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comment and an empty line name nothing; a file may begin with a byte order mark."""
    urls = tmp_path / "urls"
    urls.write_bytes(b"\xef\xbb\xbfhttp://a/2\r\n\n# later\n  http://a/3\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"http://a/4\n")))
    assert run("purge", "http://a/1", "-", "--file", str(urls)) == 0
    assert engine.bodies[0]["targets"] == [f"http://a/{number}" for number in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["purge"], "no target"),
        (["purge", "--file", "/no/such"], "cannot be read"),
        (["purge", "\udcff"], "not UTF-8"),
    ],
)
def test_nothing_is_sent_when_the_targets_are_wrong(
    engine: Engine, run: Callable[..., int], words: list[str], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        run(*words)
    assert engine.bodies == []


def test_many_targets_are_several_tasks_with_ids_of_one_stem(
    engine: Engine, run: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.client.bodies.TARGETS_MAX", 2)
    assert run("purge", "--id", "x", "a", "b", "c") == 0
    assert [(body["id"], body["targets"]) for body in engine.bodies] == [("x-1", ["a", "b"]), ("x-2", ["c"])]


def test_a_refusal_of_one_task_does_not_stop_the_others(
    engine: Engine,
    run: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("engine.client.bodies.TARGETS_MAX", 1)
    engine.failures[1] = RefusedError(422, "no such site")
    assert run("purge", "--id", "x", "a", "b") == 2
    out, err = capsys.readouterr()
    assert out == "x-2\taccepted\t1\n"
    assert "task 1 of 2: no such site (422)" in err


def test_an_engine_that_is_away_stops_the_rest_and_says_what_is_safe_to_repeat(
    engine: Engine,
    run: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("engine.client.bodies.TARGETS_MAX", 1)
    engine.failures[2] = UnreachableError("http://e", "closed", sent=True)
    assert run("purge", "--id", "x", "a", "b", "c") == 3
    assert len(engine.bodies) == 2
    err = capsys.readouterr().err
    assert "--id x is safe to repeat; 1 more targets were not sent" in err


def test_with_wait_the_exit_code_is_the_tasks(engine: Engine, run: Callable[..., int]) -> None:
    assert run("purge", "a", "--id", "x") == 0
    assert run("purge", "a", "--id", "x", "--wait") == 1
