"""release.agent.lock: whose the deploy lock is, and when it is stale."""

import json
from pathlib import Path
from typing import Any

import pytest

from release.agent import lock
from release.agent.answers import Refused
from release.agent.layout import Host

MINE = {"token": "a", "who": "ann", "where": "ci-1", "why": "deploy 1.0", "ttl_s": 60}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "root")


def change(host: Host, **values: Any) -> None:
    host.lock.write_text(json.dumps({**json.loads(host.lock.read_text()), **values}))


def test_the_holder_may_take_it_again_and_nobody_else(host: Host) -> None:
    lock.lock(host, MINE)
    lock.lock(host, MINE)
    with pytest.raises(
        Refused, match=r"locked by ann on ci-1 since .* \(deploy 1.0\); last sign of life 0 s"
    ):
        lock.lock(host, {**MINE, "token": "b"})
    lock.need_lock(host, "a")
    with pytest.raises(Refused, match="not ours any more: locked by ann"):
        lock.need_lock(host, "b")


@pytest.mark.parametrize("older", [{"beat": -1e9}, {"boot": "another"}, {"beat": 1e12}])
def test_a_silent_holder_a_reboot_or_a_clock_that_went_back_makes_it_stale(
    host: Host, older: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    lock.lock(host, MINE)
    change(host, **older)
    holder = lock.held(host)
    assert holder is not None
    assert holder["stale"]
    lock.lock(host, {**MINE, "token": "b", "who": "bob"})
    assert json.loads(capfd.readouterr().out)["event"] == "stale"
    lock.need_lock(host, "b")


@pytest.mark.parametrize("older", [{"beat": -1e9}, {"boot": "another"}, {"beat": 1e12}])
def test_a_lock_that_a_person_set_is_kept_over_reboots_and_for_any_time(
    host: Host, older: dict[str, Any]
) -> None:
    """It was void after a reboot, and after seven days."""
    lock.lock(host, {**MINE, "ttl_s": 0, "why": "lock a fair"})
    change(host, **older)
    with pytest.raises(Refused, match=r"\(lock a fair\); kept until it is released$"):
        lock.lock(host, {**MINE, "token": "b"})
    with pytest.raises(Refused, match="a fair"):
        lock.refuse_locked(host)


def test_a_reboot_alone_takes_no_lock_from_a_run_that_may_be_alive(host: Host) -> None:
    """Its controller is another machine: it has its time, from the boot on."""
    lock.lock(host, {**MINE, "ttl_s": 1e9})
    change(host, boot="another", beat=1e9)
    with pytest.raises(Refused, match="locked by ann"):
        lock.refuse_locked(host)


def test_who_holds_no_lock_is_refused_where_somebody_does_until_that_is_stale(host: Host) -> None:
    lock.refuse_locked(host)
    lock.lock(host, MINE)
    with pytest.raises(Refused, match="locked by ann"):
        lock.refuse_locked(host)
    change(host, beat=-1e9)
    lock.refuse_locked(host)


def test_a_heartbeat_is_the_holders_sign_of_life(host: Host) -> None:
    lock.lock(host, MINE)
    change(host, boot="another")
    lock.heartbeat(host, {"token": "a"})
    holder = lock.held(host)
    assert holder is not None
    assert (holder["stale"], holder["who"]) == (False, "ann")
    with pytest.raises(Refused):
        lock.heartbeat(host, {"token": "b"})


def test_it_is_given_back_by_its_holder_or_by_force(host: Host) -> None:
    assert lock.unlock(host, {}) == {"unchanged": True}
    lock.lock(host, MINE)
    with pytest.raises(Refused, match="locked by ann"):
        lock.unlock(host, {"token": "b"})
    assert not lock.unlock(host, {"token": "a"})["unchanged"]
    lock.lock(host, MINE)
    with pytest.raises(Refused, match="why is missing"):
        lock.unlock(host, {"force": True, "who": "bob"})
    assert lock.unlock(host, {"force": True, "who": "bob", "why": "x"})["was"].startswith("locked by ann")
    assert lock.held(host) is None
    with pytest.raises(Refused, match=r"not ours any more$"):
        lock.need_lock(host, "a")


def test_a_damaged_lock_is_nobodys(host: Host) -> None:
    host.make()
    host.lock.write_text("[]")
    assert lock.held(host) is None
