"""``purgeline history``: the times that it takes, and the lines that it prints."""

from __future__ import annotations

import time
from argparse import ArgumentTypeError
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

import pytest

from engine.cli import history
from engine.cli.arguments import parse
from engine.cli.screen import Output

if TYPE_CHECKING:
    from collections.abc import Mapping


def task(**fields: Any) -> dict[str, Any]:
    nodes = [{"name": f"edge-{number}", "outcome": "acked"} for number in range(3)]
    return {
        "task_id": "t",
        "action": "purge",
        "state": "done",
        "created_at": 1764000000.5,
        "by": {"token": "cms", "address": "10.0.0.9", "door": "http"},
        "match": "prefix",
        "matched": "http://a/",
        "sure": True,
        "nodes": nodes,
        "errors": [],
        **fields,
    }


class Client:
    """Answers with one page, and notes what it was asked."""

    def __init__(self, *tasks: dict[str, Any], **page: Any) -> None:
        self.page = {"tasks": list(tasks), "cursor": None, **page}
        self.asked: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def history(self, query: Mapping[str, Any], *, limit: int) -> dict[str, Any]:
        self.asked.append((dict(query), limit))
        return self.page


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Client]:
    """Return a list: the last client in it answers."""
    clients: list[Client] = []
    monkeypatch.setattr(history, "connect", lambda _args, _out: clients[-1])
    return clients


def run(*words: str) -> int:
    args = parse(["history", *words])
    return int(args.run(args, Output(as_json=args.json)))


def test_a_line_in_a_pipe_has_every_column(answers: list[Client], capsys: pytest.CaptureFixture[str]) -> None:
    answers.append(Client(task()))
    assert run("http://a/x", "--limit", "7") == 0
    assert answers[-1].asked == [({"target": "http://a/x"}, 7)]
    assert capsys.readouterr().out == (
        "1764000000.5\tcms 10.0.0.9\tpurge\tprefix\thttp://a/\tdone\t3 acked\tt\n"
    )


def test_nodes_that_did_not_do_it_are_named(
    answers: list[Client], capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [{"name": "edge-1", "outcome": "acked"}, {"name": "edge-7", "outcome": "failed"}]
    answers.append(Client(task(nodes=nodes, sure=False, match="regex")))
    run()
    run("--node", "edge-7", "--state", "failed")
    first, second = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert (first[3], first[6], second[6]) == ("regex?", "edge-7 failed, 1 acked", "edge-7 failed")
    assert answers[-1].asked[1] == ({"node": "edge-7", "state": "failed"}, 50)


def test_what_is_missing_is_said(answers: list[Client], capsys: pytest.CaptureFixture[str]) -> None:
    answers.append(Client(incomplete="history-0.db was damaged", complete_since=1764000000.5))
    run()
    said = capsys.readouterr().err
    assert "history-0.db was damaged" in said
    assert "the history has no such task" in said
    assert "it has all" not in said
    answers.append(Client(complete_since=1764000000.5))
    run()
    assert "it has all that were handed in since 2025-11-24T16:00:00Z" in capsys.readouterr().err


def test_times_are_ago_or_a_date_or_seconds() -> None:
    assert history.moment("6h") == pytest.approx(time.time() - 6 * 3600, abs=5)
    assert history.moment("1.5d") == pytest.approx(time.time() - 36 * 3600, abs=5)
    assert history.moment("1764000000.5") == 1764000000.5
    assert history.moment("2026-11-29T14:00") == datetime(2026, 11, 29, 14).timestamp()  # noqa: DTZ001 - local
    assert history.moment("2026-11-29T14:00+00:00") == 1795960800


@pytest.mark.parametrize("text", ["yesterday", "6x", "-6h", "2026-13-01", "", "9" * 20])
def test_another_time_is_a_mistake(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is no time"):
        history.moment(text)


def test_errors_are_those_of_the_target_and_the_node_that_are_asked_for(
    answers: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task of many targets has errors of others: those would hide the one that somebody asks about."""
    errors = [
        {"node": node, "target": target, "reason": "400"}
        for node in ("edge-1", "edge-7")
        for target in ("http://a/x", "http://a/y")
    ]
    answers.append(Client(task(matched="http://a/x", errors=errors), task(matched=None, errors=errors)))
    told: list[list[dict[str, Any]]] = []
    monkeypatch.setattr(Output, "failures", lambda _self, tasks: told.append([*tasks]))
    run("http://a/x", "--node", "edge-7")
    [[one, whole]] = told
    assert one["errors"] == [errors[2]]
    assert whole["errors"] == errors[2:]


def test_an_empty_answer_says_how_far_back_it_goes(
    answers: list[Client], capsys: pytest.CaptureFixture[str]
) -> None:
    answers.append(Client(complete_since=1764000000.25))
    run("http://a/x")
    answers.append(Client(task(), complete_since=1764000000.25))
    run("http://a/x")
    assert capsys.readouterr().err == (
        "purgeline: the history has no such task; it has all that were handed in since 2025-11-24T16:00:00Z\n"
    )
