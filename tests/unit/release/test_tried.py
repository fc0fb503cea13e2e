"""release.rollout.tried: a deploy looks at canaries after a round of them, and says when there was none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from release.hosts.remote import Outcome
from release.rollout.plan import WATCH
from release.rollout.steps import Cargo, HostSteps
from release.rollout.tried import ELSEWHERE_MAX_S, ROUND_MAX_S, wait_tried

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest


def status(*progress: str | None) -> dict[str, Any]:
    """Return what a host says whose workers have got so far; None: a version before, which does not say."""
    workers = [
        {"state": "accepting", "version": "2.0", **({} if one is None else {"canaries": one})}
        for one in progress
    ]
    return {"version": "2.0", "ready": True, "workers": workers}


class Rig:
    """Hosts that say something else each time, and a clock that sleeping turns."""

    def __init__(self, *said: dict[str, Any]) -> None:
        self.said = list(said)
        self.now = 0.0
        self.told: list[str] = []

    def run(self, op: str, *, hosts: Iterable[str], timeout_s: float = 0) -> dict[str, Outcome]:
        assert op == "status"
        answer = self.said.pop(0) if len(self.said) > 1 else self.said[0]
        return {name: Outcome(host=name, op=op, ok=True, answer=answer) for name in hosts}

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def waited(self) -> list[str]:
        fleet: Any = self
        first = self.run("status", hosts=["h1"])
        return wait_tried(
            fleet, first, {"h1": "2.0"}, say=self.told.append, sleep=self.sleep, now=lambda: self.now
        )


def test_a_round_that_has_not_ended_is_waited_for() -> None:
    rig = Rig(status("waiting", "elsewhere"), status("waiting", "elsewhere"), status("seen", "elsewhere"))
    assert rig.waited() == ["h1"]
    assert (rig.told, 0 < rig.now < 2) == ([], True)


def test_a_round_that_was_seen_and_canaries_that_are_off_are_not_waited_for() -> None:
    draining = {"state": "draining", "version": "1.0", "canaries": "waiting"}
    for said in (status("seen", "elsewhere"), status(""), status(None), {"workers": [draining]}, {}):
        rig = Rig(said)
        assert (rig.waited(), rig.told, rig.now) == ([], [], 0)


def test_a_round_that_does_not_end_is_told_and_keeps_nobody_waiting() -> None:
    rig = Rig(status("waiting"))
    assert rig.waited() == ["h1"]
    assert ROUND_MAX_S <= rig.now < ROUND_MAX_S + 1
    [told] = rig.told
    assert "h1: no round of canaries ended within 30 s" in told


def test_canaries_that_another_engine_runs_are_told_after_a_moment_in_which_the_leader_may_change() -> None:
    rig = Rig(status("elsewhere"))
    assert rig.waited() == ["h1"]
    assert ELSEWHERE_MAX_S <= rig.now < ELSEWHERE_MAX_S + 1
    assert rig.told == ["h1: another engine runs the canaries: none of 2.0 was seen"]
    rig = Rig(status("elsewhere"), status("waiting"), status("seen"))
    assert (rig.waited(), rig.told) == (["h1"], [])


def test_a_host_whose_first_round_ends_after_a_short_bake_and_finds_a_stale_cache_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("release.rollout.tried._POLL_S", 0)
    found = status("seen")
    found["workers"][0]["stale"] = {"edge-1": "edge-1 keeps it"}
    fleet: Any = Rig(status("waiting"), status("waiting"), found)
    ignores: Any = SimpleNamespace(say=print, begin=lambda *_: None, end=lambda *_: None)
    steps = HostSteps(fleet, ignores, ignores, cargo=Cargo(), hooks=ignores, display=ignores)
    host: Any = SimpleNamespace(host="h1", to="2.0")
    outcome = steps.run(WATCH, [host])["h1"]
    assert (outcome.ok, outcome.reason) == (False, "edge-1 keeps it (canary of edge-1)")


def test_hosts_are_waited_for_once_however_many_batches_follow() -> None:
    rig = Rig(status(""))
    fleet, said = rig, rig.told
    display: Any = SimpleNamespace(say=said.append, begin=lambda *_: None, end=lambda *_: None)
    anything: Any = display
    steps = HostSteps(fleet, anything, anything, cargo=Cargo(), hooks=anything, display=display)  # type: ignore[arg-type]
    host: Any = SimpleNamespace(host="h1", to="2.0")
    steps.run(WATCH, [host])
    rig.said = [status("elsewhere")]
    assert steps.run(WATCH, [host])["h1"].ok
    assert said == []
