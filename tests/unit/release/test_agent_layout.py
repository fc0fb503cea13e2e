"""release.agent.layout, use, prune and switch: which releases count, which stay, where the links point."""

import json
from pathlib import Path

import pytest

from release.agent import history, switch
from release.agent.answers import Refused
from release.agent.layout import Host
from release.agent.prune import prune
from release.agent.use import in_use


@pytest.fixture
def host(tmp_path: Path) -> Host:
    made = Host(tmp_path / "root")
    made.releases.mkdir(parents=True)
    return made


def release(host: Host, version: str, *, says: str = "") -> None:
    (host.releases / version).mkdir()
    (host.releases / version / ".verified").write_text(json.dumps({"version": says or version}))


@pytest.mark.parametrize("version", ["", ".", "..", "v1", "1/2", "1..2", "../1", "1\n", "1" * 200, 1, None])
def test_what_is_no_version_leads_nowhere(host: Host, version: object) -> None:
    with pytest.raises(Refused, match="is no version"):
        host.release(version)


def test_only_a_release_with_its_own_mark_counts(host: Host) -> None:
    release(host, "1.0")
    release(host, "1.1", says="1.0")
    (host.releases / "1.2").mkdir()
    (host.releases / "1.3").mkdir()
    (host.releases / "1.3/.verified").write_text("{")
    (host.releases / "notes").mkdir()
    (host.releases / "2.0").write_text("")
    assert host.unpacked() == ["1.0", "1.1", "1.2", "1.3"]
    assert host.good() == ["1.0"]
    assert host.need_verified("1.0") == {"version": "1.0"}
    with pytest.raises(Refused, match=r"1\.2 is not unpacked on this host, 1\.0 is"):
        host.need_verified("1.2")


def test_a_host_without_folders_has_no_releases_and_no_links(tmp_path: Path) -> None:
    host = Host(tmp_path / "nowhere")
    assert (host.good(), host.links()) == ([], {"current": "", "previous": ""})
    with pytest.raises(Refused, match="none is"):
        host.need_verified("1")


def test_current_leaves_its_place_to_the_next_and_is_previous_then(host: Host) -> None:
    switch.point(host, "1", host.links())
    assert host.links() == {"current": "releases/1", "previous": ""}
    switch.point(host, "2", host.links())
    assert (host.linked("current"), host.linked("previous")) == ("2", "1")
    switch.point(host, "2", host.links())
    assert host.linked("previous") == "1"


def test_pruning_keeps_the_last_good_ones_and_what_is_linked(host: Host) -> None:
    for version in ("1", "2", "3", "4"):
        release(host, version)
        history.append(host, version=version, action="reload", ok=True)
    (host.releases / "5").mkdir()
    (host.root / "current").symlink_to("releases/2")
    assert in_use(host) == {"2": "it is current"}
    plan = prune(host, {"keep": 2, "dry_run": True})
    assert host.unpacked() == ["1", "2", "3", "4", "5"]
    assert plan["kept"] == {"2": "it is current", "4": "one of the last good ones"}
    assert plan["why"] == {"1": "older than the last 2", "3": "older than the last 2", "5": "half-made"}
    assert prune(host, {"keep": 2})["removed"] == ["1", "3", "5"]
    assert host.unpacked() == ["2", "4"]
