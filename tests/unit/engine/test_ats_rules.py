"""Rules of regex_revalidate: their patterns, and the two files."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from engine.config.tables import NodeConfig
from engine.nodes import drivers, rule_file
from engine.nodes.drivers.rules import MARKER, InForce, Rule, pattern_of, read_rules, read_state
from engine.nodes.rule_file import RuleFile
from engine.tasks.words import Operation

if TYPE_CHECKING:
    from pathlib import Path

PREFIX, REGEX, HOST = Operation.PURGE_PREFIX, Operation.PURGE_REGEX, Operation.PURGE_HOST
KEPT = "http://{host}"
NOW = 1_800_000_000.5


@pytest.mark.parametrize(
    ("operation", "target", "url", "fits", "others"),
    [
        (
            PREFIX,
            "http://a.com/n.s/",
            "",
            ["http://10.0.0.9:8080/n.s/x?y", "https://a.com/n.s/"],
            ["http://a.com/nxs/"],
        ),
        (
            PREFIX,
            "http://a.com/n/",
            KEPT,
            ["http://A.com:80/n/x"],
            ["http://b.com/n/x", "http://a.com:81/n/x"],
        ),
        (PREFIX, "http://a.com:81/", KEPT, ["http://a.com:81/x"], ["http://a.com/x"]),
        (
            PREFIX,
            "http://a.com/n/",
            "http://o:8/b",
            ["http://o:8/b/n/x"],
            ["http://o:8/n/x", "http://o:80/b/n/x"],
        ),
        (REGEX, "http://a.com/x|y$", "", ["http://o/xz", "http://o/y"], ["http://o/zx", "http://o/yz"]),
        (REGEX, "http://*.a.com/x", KEPT, ["http://b.a.com/x", "http://b.c.a.com:81/x"], ["http://a.com/x"]),
        (HOST, "a.com", "", ["http://o/", "https://o/x"], ["ftp://o/"]),
        (HOST, "*.a.com", KEPT, ["http://b.a.com/"], ["http://ba.com/", "http://x/b.a.com/"]),
        (HOST, "[::1]", KEPT, ["http://[::1]/x"], ["http://[::2]/x"]),
    ],
)
def test_a_pattern_fits_what_is_purged_and_nothing_else(
    operation: Operation, target: str, url: str, fits: list[str], others: list[str]
) -> None:
    """Python's `re` reads these as PCRE does; a real ATS does in tests/service/test_rules.py."""
    pattern = pattern_of(operation, target, url)
    assert " " not in pattern
    for each in fits:
        assert re.search(pattern, each), (pattern, each)
    for each in others:
        assert not re.search(pattern, each), (pattern, each)


def node(folder: Path, **extra: float | str) -> NodeConfig:
    files = {"rules_file": str(folder / "rules"), "rules_state_file": str(folder / "state")}
    return NodeConfig(name="a", driver="ats", url="http://127.0.0.1", **files, **extra)  # type: ignore[arg-type]


def test_each_writing_is_newer_for_the_plugin_than_the_one_before(tmp_path: Path) -> None:
    """By whole seconds of the file's time, and by the expiry of a pattern that it has already."""
    file = RuleFile(node(tmp_path, rules_keep_s=1000))
    first = file.write(["^a", "^b"], NOW)
    changed_at = file.path.stat().st_mtime
    again = file.write(["^a"], NOW)
    assert file.path.stat().st_mtime == changed_at + 1
    assert (first.expiries["^a"], again.expiries["^a"]) == (1_800_001_000, 1_800_001_001)
    assert again.expiries[MARKER] > first.expiries[MARKER]
    _, rules = read_rules(file.path.read_text())
    assert rules["^b"] == Rule(1_800_001_000, "STALE")
    later = file.write([], NOW - 500)  # the clock was set back
    assert later.expiries[MARKER] > again.expiries[MARKER]
    assert file.path.stat().st_mtime == changed_at + 2
    assert file.path.stat().st_mode & 0o777 == 0o644
    os.utime(file.path, (NOW - 900, NOW - 900))  # another program's file, with an older time
    file.write([], NOW - 500)
    assert file.path.stat().st_mtime == changed_at + 3


def test_rules_in_force_that_somebody_took_out_of_the_file_come_back(tmp_path: Path) -> None:
    """ATS would not have them after its next restart, though their purges were acked."""
    file = RuleFile(node(tmp_path, rules_keep_s=1000))
    first = file.write(["^a", "^b"], NOW)
    state = [f"{pattern} {int(NOW)} {expiry} MISS\n" for pattern, expiry in first.expiries.items()]
    file.state_path.write_text("".join([*state, f"^over {int(NOW)} {int(NOW)} STALE\n"]))
    file.path.write_text("# by another program\n")
    again = file.write(["^b"], NOW)
    rules = read_rules(file.path.read_text())[1]
    assert rules["^a"] == Rule(first.expiries["^a"], "MISS")
    assert again.expiries["^b"] == rules["^b"].expiry == first.expiries["^b"] + 1
    assert set(rules) == {MARKER, "^a", "^b"}


def test_the_file_keeps_its_mode_and_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.write_text("")
    real.chmod(0o640)
    file = RuleFile(node(tmp_path))
    file.path.symlink_to(real)
    file.write(["^a"], NOW)
    assert file.path.is_symlink()
    assert "^a" in real.read_text()
    assert real.stat().st_mode & 0o777 == 0o640


def test_numbers_that_no_clock_reaches_are_no_rules(tmp_path: Path) -> None:
    """The line stays, as a comment does; Python reads no number of more than 4,300 digits."""
    file = RuleFile(node(tmp_path))
    file.path.write_text(f"^huge {'9' * 5000}\n")
    file.state_path.write_text(f"^huge 1 {'9' * 5000} STALE\n")
    file.write(["^a"], NOW)
    assert file.path.read_text().startswith("^huge 9999")
    assert file.in_force() == {}


def test_what_is_no_file_of_a_bearable_size_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = RuleFile(node(tmp_path))
    os.mkfifo(file.state_path)
    with pytest.raises(OSError, match="no regular file"):
        file.in_force()
    monkeypatch.setattr(rule_file, "BYTES_MAX", 9)
    file.path.write_text("# 9 bytes\n")
    with pytest.raises(OSError, match="more than 9 bytes"):
        file.write(["^a"], NOW)


def test_what_others_wrote_stays_and_what_is_over_goes(tmp_path: Path) -> None:
    file = RuleFile(node(tmp_path, rules_result="miss"))
    file.path.write_text(f"# by hand\n^mine {int(NOW) + 9} MISS\n^over {int(NOW)}\n^x y {int(NOW) + 9}\n")
    file.write(["^a"], NOW)
    lines = file.path.read_text().splitlines()
    assert lines[:3] == ["# by hand", f"^x y {int(NOW) + 9}", f"^mine {int(NOW) + 9} MISS"]
    assert [line.split()[0] for line in lines[3:]] == [MARKER, "^a"]
    assert lines[-1].endswith(" MISS")


def test_a_full_file_takes_no_other_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in it already is purged again all the same; when rules expire there is room."""
    monkeypatch.setattr(rule_file, "RULES_MAX", 3)
    file = RuleFile(node(tmp_path, rules_keep_s=1000))
    file.write(["^a", "^b"], NOW)
    assert set(file.write(["^c", "^a"], NOW + 1).expiries) == {MARKER, "^a"}
    assert set(read_rules(file.path.read_text())[1]) == {MARKER, "^a", "^b"}
    assert set(file.write(["^c", "^d"], NOW + 1000).expiries) == {MARKER, "^c"}


def test_a_state_file_that_is_being_written_shows_whole_lines_alone(tmp_path: Path) -> None:
    file = RuleFile(node(tmp_path))
    assert file.in_force() == {}
    file.state_path.write_text("^a 5 9 STALE\n^b 5 9 MI")
    assert file.in_force() == read_state("^a 5 9 STALE\n") == {"^a": InForce(5, 9)}
    assert file.in_force() is file.in_force()  # read again only when it has changed
    file.state_path.write_text("^a 5 9 STALE\n^b 5 9 MISS\n")
    assert file.in_force()["^b"] == InForce(5, 9, "MISS")


def test_what_no_request_asks_for_is_by_rules(tmp_path: Path) -> None:
    wide = {PREFIX, REGEX, HOST}
    table = node(tmp_path)
    assert drivers.by_rules(table) == wide
    assert not wide & drivers.for_canaries(table)
    assert drivers.takes_host_patterns(table)
    both = node(tmp_path, generation_header="X", generation_secret="s")
    assert drivers.by_rules(both) == wide - {HOST}
    assert not drivers.takes_host_patterns(both)
    assert drivers.requester(both, HOST)("a.com") == "PURGE / HTTP/1.1\r\nHost: a.com\r\nX: s\r\n\r\n"
    assert not wide & drivers.for_canaries(both)  # a generation is that of all hosts of a remap rule
    assert not drivers.by_rules(NodeConfig(name="a", driver="ats", url="http://127.0.0.1"))
