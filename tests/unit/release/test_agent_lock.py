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
    assert lock.unlock(host, {"force": True, "who": "bob"})["was"].startswith("locked by ann")
    assert lock.held(host) is None
    with pytest.raises(Refused, match=r"not ours any more$"):
        lock.need_lock(host, "a")


def test_a_damaged_lock_is_nobodys(host: Host) -> None:
    host.make()
    host.lock.write_text("[]")
    assert lock.held(host) is None
