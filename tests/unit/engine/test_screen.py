"""What commands print into a pipe, as JSON, and on standard error."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from engine.cli import screen
from engine.cli.cells import CONFIG_COLUMNS
from engine.cli.screen import Output

if TYPE_CHECKING:
    from collections.abc import Callable

    Capture = pytest.CaptureFixture[str]

TASK = {
    "task_id": "t1",
    "state": "partial",
    "total": 3,
    "failed": 12,
    "layers": [{"name": "edge", "total": 3, "counter": 1, "failed": 2, "delayed": 0}],
    "errors": [{"node": "n", "target": "http://a/", "reason": "refused\tby it"}] * 11,
}


@pytest.fixture
def lines(capsys: Capture) -> Callable[[], list[str]]:
    """Takes the lines that were printed so far."""

    def taken() -> list[str]:
        return capsys.readouterr().out.splitlines()

    return taken


def test_a_list_is_tab_separated_without_a_header(lines: Callable[[], list[str]]) -> None:
    nodes = {"nodes": [{"name": "a", "state": "ready"}]}
    Output(as_json=False).listing(nodes, "nodes", ("name", "x", "state"))
    assert lines() == ["a\t-\tready"]


def test_a_document_is_lines_of_key_and_value(lines: Callable[[], list[str]]) -> None:
    Output(as_json=False).mapping({"version": "1", "engine": {"pid": 7}, "rate": 0.5})
    assert lines() == ["version 1", "engine.pid 7", "rate 0.5"]


def test_a_list_of_documents_is_lines_by_their_first_value(lines: Callable[[], list[str]]) -> None:
    """Not the text that Python has for them; what has words of its own, such as alerts' keys, keeps these."""
    origins = [{"host": "*", "held": 0, "reason": ""}, {"host": "a.example", "held": 2}]
    told = {"origins": origins, "alerts": [{"key": "node:e1", "message": "down"}], "none": []}
    Output(as_json=False).mapping({"proof": told})
    assert lines() == [
        "proof.origins.*.held 0",
        "proof.origins.*.reason -",
        "proof.origins.a.example.held 2",
        "proof.alerts node:e1",
        "proof.none -",
    ]


def test_a_pipe_has_unix_seconds_and_human_has_a_table_with_local_times(
    lines: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    rows = [{"id": "s1", "until": 86400.5, "by": None}]
    Output(as_json=False).documents(rows, ("id", "until", "by"))
    assert lines() == ["s1\t86400.5\t-"]
    Output(as_json=False, is_human=True).documents(rows, ("id", "until", "by"))
    printed = lines()
    assert printed[1].split() == ["id", "until", "by"]
    assert printed[3].split() == [
        "s1",
        *time.strftime("%m-%d %H:%M:%S", time.localtime(86400.5)).split(),
        "-",
    ]
    monkeypatch.setattr(screen, "_has_rich", lambda: False)
    Output(as_json=False, is_human=True).documents(rows, ("id", "until", "by"))
    assert lines() == [f"s1\t{time.strftime('%m-%d %H:%M:%S', time.localtime(86400.5))}\t-"]


def test_a_task_shows_layers_the_first_errors_and_how_many_more(lines: Callable[[], list[str]]) -> None:
    Output(as_json=False).results([TASK])
    assert lines() == [
        "task_id t1",
        "state partial",
        "total 3",
        "failed 12",
        "layer edge total 3 counter 1 failed 2 delayed 0 cancelled 0",
        *([r"error n http://a/ refused\tby it"] * 10),
        "more_errors 2",
    ]


def test_a_whole_task_shows_who_its_nodes_its_targets_and_every_error(lines: Callable[[], list[str]]) -> None:
    node = {"name": "n", "layer": "edge", "total": 3, "acked": 1, "absent": 1, "failed": 2, "delayed": 0}
    node |= {"cancelled": 0, "stale": 0, "acked_at": 1.5, "verified_at": None}
    by = {"token": "cms", "address": "192.0.2.7", "door": "http"}
    told = {"targets": ["http://a/1", "http://a/\x1b2"], "target_count": 300, "nodes": [node], "by": by}
    Output(as_json=False).results([{**TASK, **told}], is_whole=True)
    printed = lines()
    assert printed[5:8] == ["by.token cms", "by.address 192.0.2.7", "by.door http"]
    share = "layer edge total 3 acked 1 absent 1 failed 2 delayed 0 cancelled 0 stale 0 acked_at 1.5"
    assert printed[9:13] == [
        f"node n {share} verified_at -",
        "target http://a/1",
        r"target http://a/\x1b2",
        "more_targets 298",
    ]
    assert (printed.count(printed[13]), printed[-1]) == (11, "more_errors 1")


def test_what_was_skipped_is_the_last_line_and_notes_are_rows(lines: Callable[[], list[str]]) -> None:
    skipped = [
        {"name": name, "reason": "squid, as configured, cannot purge by prefix"} for name in ("e2", "e3")
    ]
    task = {**TASK, "notes": [{"nodes": ["e1", "e2"], "note": "purged hard"}], "skipped": skipped}
    Output(as_json=False).results([task])
    printed = lines()
    assert "note e1,e2 purged hard" in printed
    assert printed[-1] == "skipped e2,e3"
    Output(as_json=False).results([{**task, "skipped": skipped[:1]}, task])
    assert lines()[-1] == "skipped e2,e3"
    Output(as_json=True).results([task])
    assert json.loads(lines()[0])["skipped"] == skipped


def test_several_tasks_are_a_row_each(lines: Callable[[], list[str]]) -> None:
    Output(as_json=False).results([TASK, {**TASK, "task_id": "t2"}])
    printed = lines()
    assert [line.split("\t")[0] for line in printed[:2]] == ["t1", "t2"]
    assert printed[2] == "layer edge total 6 counter 2 failed 4 delayed 0 cancelled 0"


def test_json_is_one_document_a_line(lines: Callable[[], list[str]]) -> None:
    out = Output(as_json=True)
    out.results([TASK, TASK])
    out.listing({"nodes": []}, "nodes", ("name",))
    out.sections({"nodes": [], "listen": "x"}, {"nodes": ("node", CONFIG_COLUMNS)})
    assert [json.loads(line) for line in lines()] == [TASK, TASK, {"nodes": []}, {"nodes": [], "listen": "x"}]


@pytest.mark.parametrize("as_json", [False, True])
def test_an_error_is_one_line_and_its_code_is_returned(capsys: Capture, as_json: bool) -> None:
    assert Output(as_json=as_json).error("no\nway", exit_code=2, status=422) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    if as_json:
        assert json.loads(err) == {"error": "no\nway", "status": 422, "exit_code": 2}
    else:
        assert err == "purgeline: no\\nway\n"


def test_notices_are_for_people(capsys: Capture) -> None:
    Output(as_json=True).notice("waiting")
    Output(as_json=False).notice("waiting")
    assert capsys.readouterr().err == "purgeline: waiting\n"


def test_progress_shows_nothing_in_a_pipe(capsys: Capture) -> None:
    with Output(as_json=False).progress() as show:
        show([TASK])
    assert capsys.readouterr() == ("", "")


def test_what_the_screen_cannot_encode_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    narrow: Any = type("Narrow", (), {"encoding": "ascii", "isatty": lambda _: False})()
    narrow.write = written.append
    monkeypatch.setattr("sys.stdout", narrow)
    Output(as_json=False).mapping({"host": "h\u00f6k"})
    assert written == ["host h\\xf6k\n"]


def test_a_closed_standard_output_takes_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """``>&-`` in a shell: there is nowhere to print to, and the exit code stays the task's."""
    monkeypatch.setattr("sys.stdout", None)
    Output(as_json=True).mapping({"a": 1})
    screen.finish()
