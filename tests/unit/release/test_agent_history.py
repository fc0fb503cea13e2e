"""release.agent.history: whole lines, and the way back."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from release.agent import history, index, previous, prune, reload
from release.agent.answers import Refused
from release.agent.layout import Host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    made = Host(tmp_path / "root")
    made.make()
    return made


def release(host: Host, version: str, sha256: str = "") -> None:
    folder = host.release(version)
    folder.mkdir()
    (folder / ".verified").write_text(json.dumps({"version": version, "sha256": sha256}))


def entry(version: str, action: str = "reload", **more: Any) -> dict[str, Any]:
    return {"version": version, "action": action, "ok": True, **more}


def test_a_torn_last_line_is_ended_and_passed_over(host: Host) -> None:
    path = host.root / "history.jsonl"
    path.write_bytes(b'{"version": "1"}\n{"versi')
    history.append(host, version="2")
    assert [line["version"] for line in history.entries_of(host)] == ["1", "2"]
    assert path.read_bytes().count(b"\n") == 3


def test_no_history_is_an_empty_one(tmp_path: Path) -> None:
    assert history.entries_of(Host(tmp_path)) == []


def test_what_cannot_be_noted_is_told_and_undoes_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    history.note(Host(tmp_path / "gone"), action="stop")
    said = json.loads(capfd.readouterr().out)
    assert said["event"] == "warning"
    assert said["message"].startswith("the history lacks this stop: No such file or directory")


@pytest.mark.parametrize(
    ("entries", "order"),
    [
        ([], []),
        ([entry("1"), entry("2"), entry("1")], ["2", "1"]),
        ([entry("1"), entry("2", ok=False)], ["1"]),
        ([entry("1"), entry("2", "prune"), entry("3", "unpack")], ["1"]),
        ([entry("1"), entry("2"), entry("1", "rollback", **{"from": "2"})], ["1"]),
        ([entry("1"), entry("2"), entry("3"), entry("1", "rollback", **{"from": "3"})], ["1"]),
        ([entry("1"), entry("2"), entry("1", "auto-rollback", **{"from": "2"}), entry("3")], ["1", "3"]),
        ([entry("2"), entry("1", "rollback", **{"from": "2"})], ["1"]),
    ],
)
def test_a_version_that_was_left_by_a_rollback_is_not_gone_back_to(
    entries: list[dict[str, Any]], order: list[str]
) -> None:
    assert history.served(entries) == order


def test_a_rollback_goes_to_the_last_good_one_that_is_still_here(host: Host) -> None:
    for version in ("1", "2", "3"):
        history.append(host, **entry(version))
        release(host, version)
    (host.root / "current").symlink_to("releases/3")
    assert previous.previous(host, {}) == {"version": "2", "current": "3", "passed": []}
    (host.release("2") / ".verified").unlink()
    assert previous.previous(host, {})["version"] == "1"
    (host.release("1") / ".verified").unlink()
    with pytest.raises(Refused, match="no good release before 3"):
        previous.previous(host, {})


def test_the_last_entries_are_shown(host: Host) -> None:
    for version in range(60):
        history.add(host, {"entry": {"version": str(version)}})
    assert len(history.show(host, {})["entries"]) == 50
    assert [line["version"] for line in history.show(host, {"limit": 2})["entries"]] == ["58", "59"]


def test_a_version_that_was_unpacked_anew_with_other_bytes_has_not_served(host: Host) -> None:
    """It is no way back, and is not kept as one; entries of the version before name no bytes."""
    for version, sha256 in (("1", "aa"), ("2", "bb"), ("3", "cc")):
        release(host, version, sha256)
    for line in (entry("1"), entry("2", sha256="other"), entry("3", sha256="cc")):
        history.append(host, **line)
    assert host.digests() == {"1": "aa", "2": "bb", "3": "cc"}
    assert history.served_here(host) == ["1", "3"]
    (host.root / "current").symlink_to("releases/3")
    assert previous.previous(host, {})["version"] == "1"


def test_a_reload_is_refused_where_other_bytes_are_than_were_planned(host: Host) -> None:
    release(host, "1", "aa")
    assert reload.same_bytes(host, {"version": "1"}) == "aa"
    assert reload.same_bytes(host, {"version": "1", "sha256": "aa"}) == "aa"
    with pytest.raises(Refused, match="1 is here with other bytes: SHA-256 aa, not bb"):
        reload.same_bytes(host, {"version": "1", "sha256": "bb"})


def test_a_rollback_passes_over_what_was_yanked_and_says_so(host: Host) -> None:
    """By the last index that the host has seen; what is not yanked any more counts again."""
    for version, sha256 in (("1", "aa"), ("2", "bb"), ("3", "cc")):
        release(host, version, sha256)
        history.append(host, **entry(version, sha256=sha256))
    (host.root / "current").symlink_to("releases/3")
    builds = {name: {"sha256": sha256, "yanked": ""} for name, sha256 in (("a", "aa"), ("b", "bb"))}
    builds["b"]["yanked"] = "loses callbacks"
    index.note_yanked(host, {"artefacts": builds})
    assert index.yanked(host) == {"2": "loses callbacks"}
    assert previous.previous(host, {}) == {
        "version": "1",
        "current": "3",
        "passed": ["2 was yanked: loses callbacks"],
    }
    builds["a"]["yanked"] = "leaks"
    index.note_yanked(host, {"artefacts": builds})
    with pytest.raises(Refused, match=r"^2 was yanked: loses callbacks; 1 was yanked: leaks; name one"):
        previous.previous(host, {})
    index.note_yanked(host, {"artefacts": {"a": {"sha256": "aa"}}})
    assert index.yanked(host) == {"2": "loses callbacks"}


def test_a_long_history_begins_again_with_the_way_back_and_the_last_entries(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was left by a rollback stays left, and what was unpacked ahead and tried stays tried."""
    monkeypatch.setattr(history, "BYTES_MAX", 8192)
    monkeypatch.setattr(history, "KEPT_BYTES", 1024)
    for version in ("1", "2", "3", "4", "5"):
        release(host, version)
    moves = [
        *(entry("1"), entry("2"), entry("3")),
        *(entry("2", "rollback", **{"from": "3"}), entry("4"), entry("5", ok=False)),
    ]
    for one in moves:
        history.append(host, **one)
    before = history.served_here(host)
    path = host.root / "history.jsonl"
    for number in range(200):
        history.append(host, action="unlock", version="", ok=True, number=number)
        assert history.served_here(host) == before == ["1", "2", "4"]
    assert prune.ahead(host, ["5"]) == []
    assert path.stat().st_size < 8192 + 200
    assert [one["number"] for one in history.show(host, {"limit": 3})["entries"]] == [197, 198, 199]
    assert path.with_name("history.jsonl.1").stat().st_size > 8192
    assert sorted(one.name for one in host.root.glob("*history*")) == ["history.jsonl", "history.jsonl.1"]
    assert list(host.root.glob(".history*")) == []


def test_moves_that_are_left_out_change_no_way_back() -> None:
    """Random histories, cut anywhere: what is needed of the first part leads to the same, with the rest."""
    dice = random.Random(7)
    for _ in range(300):
        now, entries = "0", []
        for _ in range(dice.randrange(2, 30)):
            version, action = str(dice.randrange(6)), dice.choice(["reload", "rollback", "auto-rollback"])
            entries.append(entry(version, action, ok=dice.random() < 0.8, **{"from": now}))
            now = version if entries[-1]["ok"] else now
        cut = dice.randrange(len(entries))
        assert history.served([*history.needed(entries[:cut], []), *entries[cut:]]) == history.served(entries)
