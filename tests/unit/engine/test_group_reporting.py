"""What ``purgeline report-groups`` holds, sends, sends again and gives up. The engine is a recorder."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from engine.cli import group_reports
from engine.cli.group_reports import Reports
from engine.cli.screen import Output
from engine.cli.varnish_log import Logged
from engine.client.errors import RefusedError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


class Engine:
    """Answers each request by *answers*, the last one again and again."""

    url = "http://engine"

    def __init__(self, *answers: Callable[[list[dict[str, Any]]], Any]) -> None:
        self._answers = list(answers)
        self.sent: list[list[str]] = []

    def with_rows(self, key: str, _method: str, _path: str, body: bytes) -> dict[str, Any]:
        reports = json.loads(body)["reports"]
        self.sent.append([report["groups"] for report in reports])
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return {key: answer(reports)}


def saved(reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"task_id": f"t-{report['id']}"} for report in reports]


def away(_reports: list[dict[str, Any]]) -> None:
    raise UnreachableError(Engine.url, "refused", sent=False)


def picky(reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Refuse every body with a report of ``b.org``."""
    if any(report["host"] == "b.org" for report in reports):
        raise RefusedError(422, "reports[0]: no")
    return saved(reports)


def busy(reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Save the first and have no room for others."""
    full = {"problem": {"status": 503, "detail": "group reports is full"}}
    return [*saved(reports[:1]), *([full] * (len(reports) - 1))]


def logged(groups: str, *, host: str = "a.org", at: float | None = None, number: int = 0) -> Logged:
    return Logged(f"n.{number}", int(time.time() if at is None else at), "POST", 200, host, groups)


def reports_of(*held: Logged) -> Reports:
    reports = Reports(Output(as_json=True), since_s=600)
    for each in held:
        reports.take(each)
    return reports


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    out, err = capsys.readouterr()
    return [*(json.loads(line)["task_id"] for line in out.splitlines()), *err.splitlines()]


def test_the_same_groups_of_a_host_are_held_once_and_sent_in_the_order_they_came(
    capsys: pytest.CaptureFixture[str],
) -> None:
    reports = reports_of(
        logged('"a"', number=1), logged('"b"', number=2), logged('"a"', number=3), logged('"a"', host="c.org")
    )
    engine: Any = Engine(saved)
    assert reports.send_last(engine)
    assert engine.sent == [['"a"', '"b"', '"a"']]
    assert told(capsys) == ["t-n.3", "t-n.2", "t-n.0"]


def test_what_an_engine_does_not_take_is_held_and_what_comes_meanwhile_is_not_lost() -> None:
    reports = reports_of(logged('"a"'))
    engine: Any = Engine(away, saved)
    assert not reports.send_last(engine)
    reports.take(logged('"b"'))
    assert reports.send_last(engine)
    assert engine.sent == [['"a"'], ['"a"', '"b"']]


def test_what_an_engine_has_no_room_for_is_sent_again_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    reports = reports_of(logged('"a"', number=1), logged('"b"', number=2))
    engine: Any = Engine(busy, saved)
    assert not reports.send_last(engine)
    assert reports.send_last(engine)
    assert engine.sent == [['"a"', '"b"'], ['"b"']]
    assert [line for line in told(capsys) if line.startswith("t")] == ["t-n.1", "t-n.2"]


def test_a_report_that_no_engine_will_take_keeps_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    reports = reports_of(
        logged('"a"', number=1), logged('"b"', host="b.org", number=2), logged('"c"', number=3)
    )
    engine: Any = Engine(picky)
    assert reports.send_last(engine)
    assert engine.sent == [['"a"', '"b"', '"c"'], ['"a"'], ['"b"'], ['"c"']]
    first, second, lost = told(capsys)
    assert (first, second) == ("t-n.1", "t-n.3")
    assert "n.2 of b.org is lost: reports[0]: no (422)" in lost


def test_answers_that_are_none_to_what_was_sent_lose_nothing() -> None:
    reports = reports_of(logged('"a"'))
    engine: Any = Engine(lambda _reports: [], saved)
    assert not reports.send_last(engine)
    assert reports.send_last(engine)


def test_what_is_older_than_asked_for_is_left_out_and_what_is_over_the_bound_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(group_reports, "HELD_MAX", 1)
    reports = reports_of()
    reports.take_past(logged('"old"', at=time.time() - 700))
    for each in (logged('"a"', at=time.time() - 700), logged('"b"'), logged('"a"')):
        reports.take(each)  # of a slow origin, the first
    engine: Any = Engine(saved)
    assert reports.send_last(engine)
    assert engine.sent == [['"a"']]
    assert "1 reports are lost: 1 different ones are held" in capsys.readouterr().err
