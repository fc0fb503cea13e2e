"""The command line's words, read."""

from __future__ import annotations

import pytest

from engine.cli import local, submit, views
from engine.cli.arguments import parse


def test_targets_may_stand_between_and_after_options() -> None:
    args = parse(["purge", "http://a/1", "--soft", "http://a/2", "--layer", "edge", "--", "-3"])
    assert args.targets == ["http://a/1", "http://a/2", "-3"]
    assert (args.soft, args.layer, args.kind) == (True, ["edge"], "url")
    assert args.run is submit.hand_in


def test_global_options_stand_before_and_after_the_command() -> None:
    args = parse(["--engine", "http://a", "--json", "stats", "--engine", "http://b"])
    assert (args.engine, args.json, args.run) == ("http://b", True, views.stats)


@pytest.mark.parametrize(("kind", "words"), [("key", ["--key"]), ("host", ["--host"]), ("url", [])])
def test_a_kind_is_a_flag(kind: str, words: list[str]) -> None:
    assert parse(["purge", *words, "x"]).kind == kind


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["no-such-command"],
        ["purge", "x", "--no-such-option"],
        ["purge", "x", "--key", "--host"],
        ["purge", "x", "--id", "a b"],
        ["purge", "x", "--due", "0"],
        ["prefetch", "x", "--soft"],
        ["prefetch", "x", "--on-incapable", "skip"],
        ["purge", "x", "--on-incapable", "fail"],
        ["purge", "x", "--verify", "sample"],
        ["purge", "x", "--verify", "sample:0"],
        ["purge", "x", "--verify", "http://a/1"],
        ["purge", "x", "--verify", "all", "--verify-url", "http://a/1"],
        ["prefetch", "x", "--verify", "all"],
        ["status"],
        ["status", "a", "b"],
        ["tasks", "--limit", "0"],
        ["tasks", "--state", "asleep"],
        ["render"],
        ["render", "apache"],
        ["render", "nginx", "--from", "here; allow all"],
        ["render", "nginx", "--from", "fe80::1%eth0"],
        ["render", "nginx", "--node", 'a" "b'],
        ["render", "nginx", "--whole", "--backend", "[:]:80"],
        ["render", "nginx", "--certificate", "/a b.pem"],
        ["render", "nginx", "--whole", "--backend", "127.0.0.1:0"],
        ["render", "nginx", "--whole", "--backend", "127.0.0.1"],
        ["check-nodes"],
        ["--timeout", "soon", "stats"],
    ],
)
def test_a_mistake_ends_with_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(words)
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith("purgeline")
    assert shown.endswith(" --help)\n")
    assert shown.count("\n") == 1, "one line"


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["purg", "http://a/"], "purge"),
        (["tasks", "--state", "doen"], "done"),
        (["render", "varnsh"], "varnish"),
        (["purge", "--layr", "edge", "http://a/"], "--layer"),
        (["purge", "--layr=edge", "http://a/"], "--layer"),
        (["debug", "loo"], "loop"),
        (["init", "--cache", "varnsh=http://127.0.0.1:1"], "varnish"),
        (["purge", "--verify", "al", "http://a/"], "all"),
        (["cdni", "purg", "http://a/"], "purge"),
        (["debug", "loop", "--secnds", "3"], "--seconds"),
    ],
)
def test_a_mistake_is_answered_with_what_may_be_meant(
    words: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(words)
    assert f"; did you mean '{meant}'? (see purgeline" in capsys.readouterr().err


def test_a_command_that_only_supervisors_use_is_not_offered(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["xyzzy"])
    assert " worker" not in capsys.readouterr().err


def test_a_word_that_is_none_of_a_few_is_answered_with_those(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["tasks", "--state", "asleep"])
    shown = capsys.readouterr().err
    assert "State." not in shown
    for state in ("accepted", "running", "done", "partial", "failed", "cancelled"):
        assert state in shown.partition("known:")[2]


def test_the_worker_is_for_supervisors_and_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(["worker", "--config", "f"]).run is local.work
    with pytest.raises(SystemExit):
        parse(["--help"])
    assert "worker " not in capsys.readouterr().out
