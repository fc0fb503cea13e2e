"""``purgeline retry`` and ``purgeline rewind``: what they print."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

import pytest

from engine.cli import again
from engine.cli.arguments import parse
from engine.cli.screen import Output

if TYPE_CHECKING:
    from collections.abc import Mapping

LEFT = {"node": "e", "kind": "prefix", "targets": 1, "reason": "it cannot purge by prefix"}


class Client:
    """Has sent one task again, which is done, and has left something out."""

    timeout_s = 1.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def rewind(self, _asked: Mapping[str, Any]) -> dict[str, Any]:
        return {"rewind": "r", "tasks": ["t"], "left_out": [LEFT], "incomplete": "a worker is away"}

    def retry(self, task_id: str, *, dry_run: bool = False) -> dict[str, Any]:
        return {"retries": task_id, "task_id": "t", "total": 1, "tasks": ["t"], "left_out": [LEFT]}

    def look(self, task_id: str) -> dict[str, Any]:
        return {"task_id": task_id, "state": "done"}


@pytest.mark.parametrize(
    ("words", "first"),
    [
        (["rewind", "--node", "e", "--since", "1h"], Client().rewind({})),
        (["retry", "a"], Client().retry("a")),
    ],
)
def test_json_has_what_was_sent_again_before_what_became_of_it(
    words: list[str],
    first: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(again, "connect", lambda _args, _out: Client())
    for more, tasks in (([], []), (["--wait"], [{"task_id": "t", "state": "done"}])):
        args = parse(["--json", *words, *more])
        assert args.run(args, Output(as_json=True)) == 0
        assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [first, *tasks]


def test_json_has_what_is_not_sent_again_and_where_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = {
        "retried": 1,
        "not_retried": [{"task_id": "b", "reason": "its nodes are gone"}],
        "cursor": "c1",
        "incomplete": "a worker is away",
    }

    class Filtering(Client):
        """Has been asked for what failed."""

        def retries(self, _asked: Mapping[str, Any], *, limit: int, dry_run: bool = False) -> dict[str, Any]:
            assert limit > 0
            return {**rest, "tasks": [Client().retry("a")]}

    monkeypatch.setattr(again, "connect", lambda _args, _out: Filtering())
    for more, tasks in (([], []), (["--wait"], [{"task_id": "t", "state": "done"}])):
        args = parse(["--json", "retry", "--node", "e", *more])
        assert args.run(args, Output(as_json=True)) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert lines == [Client().retry("a"), rest, *tasks]
