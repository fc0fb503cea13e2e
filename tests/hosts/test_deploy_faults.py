"""Deploys to three hosts by SSH of which some go away, and controllers that do."""

import re
import signal
import time
from pathlib import Path

import pytest

from tests.rigs.hosts import needs_hosts
from tests.rigs.site import Site, each, elapsed

pytestmark = needs_hosts

WAIT = {"pre-deploy": "echo waiting; sleep 4"}


@pytest.mark.parametrize("how", ["crash", pytest.param("cut", marks=pytest.mark.slow)])
def test_a_host_that_goes_away_in_mid_step_takes_the_others_back(site: Site, how: str) -> None:
    """In bounded time. When it is back the same command brings all of them there."""
    second = site.rig.hosts[1]
    site.behave(second, site.new, ready_delay_s=3)
    with site.start("deploy", *site.deploy_args(site.new, "--batches", "1")) as task:
        task.read_until("h2: reload: spawned")
        began = time.monotonic()
        getattr(second, how)()
        bad = task.end()
    try:
        assert elapsed(began) < 25
        assert bad.code == 1
        assert bad.fates == {"h1": "rolled back", "h2": "unknown", "h3": "not begun"}
        assert "the connection to 10.77.0.11:22 was lost in mid-step" in bad.reasons["h2"]
    finally:
        second.start() if how == "crash" else second.heal()
    site.behave(second, site.new)  # without the delay, which leaves a start little of its time
    again = site.deploy_when_quiet(site.new, batches="100%")
    assert again.code == 0, again.err
    assert site.serving() == each(site.new)


@pytest.mark.slow
def test_hosts_that_cannot_be_asked_stop_it_before_it_begins(site: Site) -> None:
    """All of them named; a rollback takes those it gets."""
    site.deploy(site.new, "--batches", "100%")
    third = site.rig.hosts[2]
    third.crash()
    try:
        refused = site.run("deploy", "--release", site.base, "--no-salt")
        assert refused.code == 3
        assert "h3: 10.77.0.12:22 refuses the connection" in refused.err
        status = site.run("status", "--json")
        assert status.code == 3
        back = site.run("rollback", "--json")
        assert back.code == 1
        assert back.fates == {"h1": "done", "h2": "done", "h3": "unknown"}
    finally:
        third.start()


@pytest.mark.slow
def test_of_two_deploys_at_once_one_is_refused_by_name(site: Site) -> None:
    """The other one is not disturbed."""
    with site.start("deploy", *site.deploy_args(site.new, "--host", "h1"), hooks=WAIT) as first:
        first.read_until("waiting")
        second = site.run("deploy", "--release", site.base, "--no-salt", state_dir=str(site.folder / "other"))
        assert second.code == 4
        assert re.search(rf"h1: locked by \S+ on \S+ since .* \(deploy {site.new} ", second.err)
        assert "./inv unlock --force --why REASON --host h1" in second.err
        done = first.end()
    assert (done.code, done.fates) == (0, {"h1": "done"})


@pytest.mark.slow
def test_an_interrupted_deploy_ends_its_step_and_is_resumed(site: Site) -> None:
    """It keeps no lock; the next run says what was done."""
    with site.start("deploy", *site.deploy_args(site.new, "--host", "h1,h2")) as task:
        task.read_until("h1: unpack ok")
        task.send(signal.SIGINT)
        stopped = task.end()
    assert stopped.code == 130
    assert stopped.document["verdict"] == "interrupted"
    assert stopped.fates["h2"] == "not begun"
    assert not (site.inside(site.rig.hosts[0]) / "lock").exists()
    again = site.deploy(site.new, "--batches", "100%")
    assert again.code == 0, again.err
    said = rf"deploy {site.new} \(.*\) was interrupted at .*; done by then: (h1|no host)"
    assert re.search(said, again.err)
    assert site.serving() == each(site.new)


def test_a_killed_controller_leaves_its_lock_and_the_next_run_takes_over(site: Site) -> None:
    """Elsewhere it is refused by name until the lock is stale; here it goes on at once."""
    site.behave(site.rig.hosts[1], site.new, ready_delay_s=1)
    with site.start("deploy", *site.deploy_args(site.new, "--host", "h1,h2")) as task:
        task.read_until("h2: reload: spawned")
        task.send(signal.SIGKILL)
        assert task.end().code == -signal.SIGKILL
    elsewhere = site.run("deploy", "--release", site.new, "--no-salt", state_dir=str(site.folder / "other"))
    assert elsewhere.code == 4
    here = site.deploy_when_quiet(site.new)
    assert here.code == 0, here.err
    assert re.search(rf"deploy {site.new} \(.*\) was killed on this machine; its lock is released", here.err)
    assert here.fates["h1"] == "already there"
    assert site.serving() == each(site.new)


@pytest.mark.slow
def test_a_stale_lock_is_taken_over(site: Site) -> None:
    """After its time without a sign of life."""
    args = site.deploy_args(site.new, "--host", "h1")
    with site.start("deploy", *args, lock_ttl_s=1, hooks=WAIT) as task:
        task.read_until("waiting")
        task.send(signal.SIGKILL)
        task.end()
    time.sleep(1.1)  # the lock's own time
    taken = site.deploy(site.new, "--host", "h1", state_dir=str(site.folder / "other"))
    assert taken.code == 0, taken.err


@pytest.mark.slow
def test_a_deploy_whose_lock_was_taken_from_it_changes_nothing_more(site: Site, tmp_path: Path) -> None:
    """The host itself refuses: the controller's next heartbeat may be far away."""
    is_taken = tmp_path / "taken"
    hooks = {"pre-reload": f"echo waiting; until [ -e {is_taken} ]; do sleep 0.05; done"}
    with site.start("deploy", *site.deploy_args(site.new, "--host", "h1"), hooks=hooks) as task:
        task.read_until("waiting")
        unlock = ("unlock", "--force", "--host", "h1")
        assert site.run(*unlock, state_dir=str(site.folder / "other")).code == 2
        taken = site.run(*unlock, "--why", "it hangs", state_dir=str(site.folder / "other"))
        assert taken.code == 0, taken.err
        assert re.search(r"unlocked; it was locked by .*; taken because: it hangs", taken.out)
        is_taken.touch()
        done = task.end()
    assert (done.code, done.fates) == (1, {"h1": "failed"})
    assert done.reasons["h1"] == "reload: the lock is not ours any more"
    assert site.serving() == each(site.base)
