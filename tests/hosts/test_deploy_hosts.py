"""Deploys to three hosts by SSH: canary, bad versions, gates, locks, rollbacks, pruning."""

import itertools
import re
from pathlib import Path

import pytest

from tests.rigs.hosts import needs_hosts
from tests.rigs.site import Site, each

pytestmark = needs_hosts


def test_a_deploy_goes_canary_first_and_again_it_is_nothing_to_do(site: Site, tmp_path: Path) -> None:
    """With hooks around it; hosts and controller remember it."""
    told = tmp_path / "told"
    names = ("pre-deploy", "post-unpack", "pre-reload", "post-reload", "post-deploy")
    tell = f'echo "$PURGELINE_HOOK $PURGELINE_HOSTS $PURGELINE_VERSION" >> {told}'
    hooks = dict.fromkeys(names, tell)
    done = site.deploy(site.new, "--batches", "1,25%,100%", hooks=hooks)
    assert done.code == 0, done.err
    assert done.fates == each("done")
    assert [host["batch"] for host in done.document["hosts"]] == [1, 2, 3]
    assert {host["from"] for host in done.document["hosts"]} == {site.base}
    assert site.serving() == each(site.new)
    status = site.run("status", "--json").document
    assert {host["host"]: host["status"]["served_version"] for host in status["hosts"]} == each(site.new)
    batches = [
        [f"post-unpack {host} {site.new}", f"pre-reload {host} {site.new}", f"post-reload {host} {site.new}"]
        for host in each("")
    ]
    assert told.read_text().splitlines() == [
        f"pre-deploy h1,h2,h3 {site.new}",
        *itertools.chain.from_iterable(batches),
        f"post-deploy h1,h2,h3 {site.new}",
    ]
    for host in site.rig.hosts:
        assert (site.inside(host) / "current").readlink() == Path("releases") / site.new
        assert site.history(host)[-2:] == [("unpack", site.new, True), ("reload", site.new, True)]
        assert not (site.inside(host) / "lock").exists()
    again = site.deploy(site.new)
    assert (again.code, again.fates) == (0, each("already there"))
    here = site.run("history", "--here", "--json").document["entries"]
    assert [entry.get("verdict") for entry in here[-2:]] == [None, "done"]


def test_a_version_that_does_not_start_ends_at_the_canary(site: Site) -> None:
    """Its last words are on the screen, and nobody else was asked."""
    site.publish("3.0", import_error="ModuleNotFoundError: No module named 'nowhere'")
    bad = site.run("deploy", "--release", "3.0", "--no-salt")
    assert bad.code == 1
    assert "the canary failed: h1" in bad.out
    assert "No module named 'nowhere'" in bad.out
    assert site.serving() == each(site.base)
    assert not (site.inside(site.rig.hosts[1]) / "releases" / "3.0").exists()


def test_a_bad_host_takes_all_back_the_last_one_first(site: Site) -> None:
    """Each host's history says that it was taken back."""
    first, second, third = site.rig.hosts
    site.behave(third, site.new, ready_status=503)
    bad = site.deploy(site.new, "--batches", "1", reload_timeout_s=5)
    assert bad.code == 1
    assert bad.fates == {"h1": "rolled back", "h2": "rolled back", "h3": "failed"}
    assert "503" in bad.reasons["h3"]
    assert site.serving() == each(site.base)
    assert site.history(first)[-1] == site.history(second)[-1] == ("auto-rollback", site.base, True)
    assert site.history(third)[-1] == ("reload", site.new, False)
    back = re.findall(r"(h\d): way back ok", bad.err)
    assert back == ["h2", "h1"]


@pytest.mark.slow
def test_a_version_that_goes_bad_after_its_bake_is_taken_back(site: Site) -> None:
    """The canary is watched together with the later batches."""
    site.behave(site.rig.hosts[0], site.new, exit_after_s=3)
    slow = "sleep 3.5; true"
    bad = site.deploy(site.new, "--batches", "1,100%", hooks={"pre-unpack": slow})
    assert bad.code == 1
    assert bad.fates == {"h1": "rolled back", "h2": "rolled back", "h3": "rolled back"}
    assert re.search(
        r"h1: (watch|reload) failed: .*(ended by itself|is not ready|ended before|died|accepts)", bad.err
    ), bad.err
    assert site.serving() == each(site.base)


@pytest.mark.slow
def test_a_hook_that_fails_after_the_reload_takes_the_canary_back(site: Site) -> None:
    """A smoke test, say."""
    bad = site.deploy(site.new, hooks={"post-reload": f"test $PURGELINE_VERSION = {site.base}"})
    assert (bad.code, bad.fates["h1"], bad.fates["h2"]) == (1, "rolled back", "not begun")
    assert "the hook post-reload ended with 1" in bad.reasons["h1"]
    assert site.serving() == each(site.base)


def test_what_stands_against_a_deploy_is_told_before_anything_changes(site: Site) -> None:
    """Exit code 3 for gates, 2 for usage; the dry run finds them too."""
    full = site.run("plan", "--release", site.new, "--no-salt", min_free_bytes=10**18)
    assert full.code == 3
    assert re.search(r"refused: h1: \d+ MiB free, \d+ needed", full.out)
    unknown = site.deploy("7.0")
    assert (unknown.code, "there is no version 7.0" in unknown.err) == (3, True)
    assert site.deploy(site.new, "--host", "h9").code == 2
    assert site.deploy(site.new, "--batches", "none").code == 2
    dry = site.run("deploy", "--release", site.new, "--no-salt", "--dry-run")
    assert dry.code == 0
    assert (
        f"batch 1 (canary): 1 host\n    h1  {site.base} -> {site.new}: unpack -> reload -> watch" in dry.out
    )
    assert site.serving() == each(site.base)


@pytest.mark.slow
def test_a_lock_by_hand_keeps_everybody_out_until_it_is_released(site: Site) -> None:
    """Others see why."""
    assert site.run("lock").code == 2
    assert site.run("lock", "--why", "a fair").code == 0
    refused = site.deploy(site.new)
    assert (refused.code, "a fair" in refused.err) == (4, True)
    assert site.run("prune", "--keep", "1").code == 4
    assert site.run("unlock", state_dir=str(site.folder / "other")).code == 1
    assert site.run("unlock").code == 0
    assert site.deploy(site.new, "--batches", "100%").code == 0


@pytest.mark.slow
def test_a_rollback_needs_no_repository(site: Site) -> None:
    """Every host knows where it came from; a given version must be there."""
    assert site.deploy(site.new, "--batches", "100%").code == 0
    back = site.run("rollback", "--json", repository=str(site.folder / "gone"))
    assert (back.code, back.fates) == (0, each("done"))
    assert site.serving() == each(site.base)
    assert site.history(site.rig.hosts[0])[-1] == ("rollback", site.base, True)
    gone = site.run("rollback", "--to", "0.9")
    assert gone.code == 3
    assert "0.9" in gone.err
    assert site.run("verify", "--release", site.base).code == 0


@pytest.mark.slow
def test_pruning_keeps_what_is_in_use(site: Site) -> None:
    """A deploy does it at its end, and the task at once."""

    def releases() -> set[str]:
        return {path.name for path in (site.inside(site.rig.hosts[0]) / "releases").iterdir()}

    first = site.new
    assert site.deploy(first, "--batches", "100%", keep_count=1).code == 0
    assert releases() == {site.base, first}  # previous and current
    site.publish_next()
    assert site.deploy(site.new, "--batches", "100%", keep_count=5).code == 0
    pruned = site.run("prune", "--keep", "2", "--json").document
    assert [host["answer"]["removed"] for host in pruned["hosts"]] == [[site.base]] * 3
    assert releases() == {first, site.new}
