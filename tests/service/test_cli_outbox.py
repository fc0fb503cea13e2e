"""``purge --outbox`` and ``purgeline outbox``: exit codes, what is shown, and the alert."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from engine.cli import main as cli
from engine.client import Outbox
from tests.fakes.engine import FakeEngine, problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEAD = "http://127.0.0.1:1"
URLS = [f"http://img.example.com/{name}.jpg" for name in "ab"]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeEngine]:
    with FakeEngine().running() as running:
        monkeypatch.setenv("PURGELINE_URL", running.url)
        monkeypatch.setenv("PURGELINE_OUTBOX", str(tmp_path / "outbox"))
        yield running


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "outbox")


def test_a_purge_that_no_engine_takes_is_kept_and_sent_by_the_next(
    engine: FakeEngine, outbox: Outbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command ends with 3: it is not done, though nothing is lost."""
    assert cli.main(["purge", *URLS, "--id", "a", "--engine", DEAD]) == 3
    out, err = capsys.readouterr()
    assert out == "a\tspooled\t0\n"
    assert err == (
        f"purgeline: engine {DEAD} unreachable: Connection refused; 1 task kept in the outbox "
        f"{outbox.folder}: purgeline outbox send\n"
    )
    assert cli.main(["outbox", "list"]) == 0
    row = capsys.readouterr().out.split("\t")
    assert (row[:2], row[5:]) == (["a", "waiting"], ["2", "-\n"])
    assert cli.main(["prefetch", URLS[0], "--id", "b"]) == 0
    assert capsys.readouterr().err == "purgeline: 1 task of the outbox sent, 0 left\n"
    assert [body["id"] for _, _, body in engine.requests] == ["b", "a"]
    assert cli.main(["outbox", "list"]) == 0
    assert capsys.readouterr().out == ""


def test_a_dead_engine_beside_one_that_lives_is_no_reason_to_keep(engine: FakeEngine, outbox: Outbox) -> None:
    assert cli.main(["purge", *URLS, "--engine", f"{DEAD},{engine.url}"]) == 0
    assert outbox.entries() == []


def test_an_outbox_that_cannot_keep_a_purge_is_an_error(
    engine: FakeEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert cli.main(["purge", *URLS, "--id", "a", "--engine", DEAD, "--outbox", str(tmp_path / "file")]) == 1
    assert "task a is stored nowhere" in capsys.readouterr().err


def test_send_ends_with_3_while_nobody_takes_them_and_with_0_when_all_are_sent(
    engine: FakeEngine, outbox: Outbox, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["purge", URLS[0], "--engine", DEAD]) == 3
    assert cli.main(["outbox", "send", "--engine", DEAD]) == 3
    out, err = capsys.readouterr()
    assert out.endswith("sent 0\nwaiting 1\nrefused 0\n")
    assert err.endswith(
        f"post to engine failed: engine {DEAD} unreachable: Connection refused; 1 task still to be sent\n"
    )

    engine.script["POST /v1/engine/task"] = [problem(503, "starting", Retry_After="9")]
    assert cli.main(["outbox", "send"]) == 3
    engine.script["POST /v1/engine/task"] = [problem(401, "takes a token")]
    assert cli.main(["outbox", "send"]) == 2
    del engine.script["POST /v1/engine/task"]
    assert cli.main(["outbox", "send"]) == 0
    assert outbox.entries() == []


def test_what_was_refused_for_good_counts_until_it_is_dropped_or_taken(
    engine: FakeEngine, outbox: Outbox, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "xy":
        assert cli.main(["purge", URLS[0], "--engine", DEAD, "--id", name]) == 3
    engine.script["POST /v1/engine/task"] = [problem(422, "outside the sites")]
    assert cli.main(["outbox", "send"]) == 1
    assert cli.main(["outbox", "send"]) == 1
    assert "set aside: 2 tasks" in capsys.readouterr().err
    assert cli.main(["outbox", "list", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["task_id"], row["state"], row["reason"]) for row in rows] == [
        ("x", "refused", "outside the sites (422)"),
        ("y", "refused", "outside the sites (422)"),
    ]
    assert cli.main(["outbox", "drop", "x"]) == 0
    assert cli.main(["outbox", "drop", "x"]) == 1
    del engine.script["POST /v1/engine/task"]
    assert cli.main(["outbox", "send", "--refused"]) == 0
    assert engine.requests[-1][2]["id"] == "y"


def test_an_old_task_is_an_alert_once_an_hour_and_its_end_another(
    engine: FakeEngine, outbox: Outbox, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.script["POST /alert"] = [(500, {}), (200, {})]
    to = ["--alert-after", "30", "--alert-url", f"{engine.url}/alert?to=cdn"]
    assert cli.main(["purge", URLS[0], "--engine", DEAD]) == 3
    assert cli.main(["outbox", "send", "--engine", DEAD, *to]) == 3
    assert engine.requests == []  # it is young
    [entry] = outbox.entries()
    entry.path.rename(entry.path.with_name(f"{time.time_ns() - 90 * 10**9:020d}-{entry.task_id}.task"))
    assert cli.main(["outbox", "send", "--engine", DEAD, *to]) == 3
    assert "the alert was not delivered: answered 500" in capsys.readouterr().err
    for _ in range(2):
        assert cli.main(["outbox", "send", "--engine", DEAD, *to]) == 3
    alerts = [body for _, _, body in engine.requests]
    assert [alert["level"] for alert in alerts] == ["error", "error"]  # the first was not delivered
    assert alerts[1]["message"] == f"post to engine failed for 90 s: 1 task in {outbox.folder}"
    assert (alerts[1]["facts"]["waiting"], round(alerts[1]["facts"]["duration_s"], -1)) == (1, 90)
    assert cli.main(["outbox", "send", *to]) == 0
    assert (engine.requests[-1][0], engine.requests[-1][2]["level"]) == ("POST /alert?to=cdn", "resolved")
    assert cli.main(["outbox", "send", *to]) == 0
    assert len(engine.requests) == 4


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["list", "x"], "takes no ids"),
        (["list", "--alert-after", "1"], "send does"),
        (["drop"], "takes ids of tasks, or --refused, or --all"),
        (["send", "--alert-url", "http://x"], "from what age on"),
        (["send", "--alert-config", "x", "--alert-url", "http://x"], "not beside --alert-config"),
        (["send", "--alert-config", "/none.toml"], "/none.toml: no such file"),
        (["send", "--alert-after", "1", "--alert-url", "x"], "--alert-url: 'x' is not an http"),
    ],
)
def test_wrong_use_says_what_would_be_right(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str], words: list[str], why: str
) -> None:
    assert cli.main(["outbox", *words]) == 2
    assert why in capsys.readouterr().err


def test_without_a_folder_it_asks_for_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PURGELINE_OUTBOX", raising=False)
    assert cli.main(["outbox", "send"]) == 2
    assert "--outbox DIR, or in PURGELINE_OUTBOX" in capsys.readouterr().err
