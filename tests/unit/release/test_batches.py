"""When a rollout goes on, stops or turns back. Its steps are scripted here."""

from collections.abc import Callable, Sequence

import pytest

from release.hosts.remote import Outcome
from release.inventory import Host
from release.rollout.batches import Rollout
from release.rollout.plan import HostPlan, HostState, Plan, deploy_plan, with_shadow
from release.rollout.report import Fate, Report, Verdict

OLD, NEW = "1.0", "2.0"
NO_ANSWER = {"lost", "unreachable"}


class Scripted:
    """Steps that succeed, but for those that a test names; keeps what was asked, in order."""

    def __init__(self, **bad: str) -> None:
        self.bad = bad  #: ``host_step`` → kind of the failure
        self.asked: list[tuple[str, list[str]]] = []
        self.on_step: Callable[[str], None] = lambda _step: None

    def run(self, step: str, hosts: Sequence[HostPlan]) -> dict[str, Outcome]:
        self.asked.append((step, [host.host for host in hosts]))
        self.on_step(step)
        return {host.host: self._outcome(host.host, step) for host in hosts}

    def take_back(self, hosts: Sequence[HostPlan]) -> dict[str, Outcome]:
        self.asked.append(("back", [host.host for host in hosts]))
        return {host.host: self._outcome(host.host, "back") for host in hosts}

    def _outcome(self, host: str, step: str) -> Outcome:
        kind = self.bad.get(f"{host}_{step}", "")
        is_done = kind == "hook"  # the host did it, and the hook after it failed
        return Outcome(
            host=host,
            op=step,
            ok=not kind,
            kind=kind,
            reason=f"{step} is bad" if kind else "",
            log=["last words"] if kind else [],
            answer={} if kind in NO_ANSWER else {"ok": is_done or not kind},
            duration_s=1.0,
        )


def planned(
    names: str = "abcd", *, batches: str = "1,1,100%", failures_max: int = 0, done: str = "", fresh: str = ""
) -> Plan:
    """Plan hosts a, b, c, …; those of *done* are on the new version, those of *fresh* on none."""
    states = {
        name: HostState(name=name, current=version, running=version, releases=[version])
        for name in names
        for version in [NEW if name in done else "" if name in fresh else OLD]
    }
    hosts = [Host(name=name) for name in names]
    return deploy_plan(hosts, states, NEW, batches=batches, failures_max=failures_max)


def fates(report: Report) -> dict[str, Fate]:
    return {host.plan.host: host.fate for host in report.hosts}


def test_batches_go_one_after_the_other_each_watched_with_all_before() -> None:
    """So a release that goes bad late is noticed."""
    steps = Scripted()
    report = Rollout(planned(), steps).run()
    assert steps.asked == [
        ("unpack", ["a"]),
        ("reload", ["a"]),
        ("watch", ["a"]),
        ("unpack", ["b"]),
        ("reload", ["b"]),
        ("watch", ["a", "b"]),
        ("unpack", ["c", "d"]),
        ("reload", ["c", "d"]),
        ("watch", ["a", "b", "c", "d"]),
    ]
    assert (report.verdict, report.reason) == (Verdict.DONE, "")
    assert set(fates(report).values()) == {Fate.DONE}
    assert report.hosts[0].steps == ["unpack", "reload", "watch"]
    assert report.hosts[3].duration_s == 3.0


@pytest.mark.parametrize("step", ["unpack", "reload"])
def test_a_canary_that_fails_before_it_is_changed_ends_it_there(step: str) -> None:
    """No other host is touched, and there is nothing to take back."""
    steps = Scripted(**{f"a_{step}": "failed"})
    report = Rollout(planned(failures_max=3), steps).run()
    assert report.verdict is Verdict.FAILED
    assert report.reason == "the canary failed: a"
    assert fates(report) == {"a": Fate.FAILED, "b": Fate.WAITING, "c": Fate.WAITING, "d": Fate.WAITING}
    assert {host for _, hosts in steps.asked for host in hosts} == {"a"}
    assert "back" not in [asked for asked, _ in steps.asked]
    assert report.hosts[0].reason == f"{step}: {step} is bad"
    assert report.hosts[0].log == ["last words"]


def test_a_failure_later_takes_everything_back_the_last_batch_first() -> None:
    """The host that failed kept its old version by itself."""
    steps = Scripted(c_reload="failed")
    report = Rollout(planned(), steps).run()
    assert report.verdict is Verdict.FAILED
    assert report.reason == "1 host failed: c"
    assert steps.asked[-3:] == [("back", ["d"]), ("back", ["b"]), ("back", ["a"])]
    assert fates(report) == {"a": Fate.BACK, "b": Fate.BACK, "c": Fate.FAILED, "d": Fate.BACK}


def test_a_host_that_goes_bad_after_its_batch_counts_too() -> None:
    """It is watched with the later batches, and goes back with the others."""
    steps = Scripted()

    def spoil(step: str) -> None:
        if step == "reload" and steps.asked[-1] == ("reload", ["b"]):
            steps.bad["a_watch"] = "unwell"

    steps.on_step = spoil
    report = Rollout(planned(), steps).run()
    assert report.verdict is Verdict.FAILED
    assert steps.asked[-2:] == [("back", ["b"]), ("back", ["a"])]
    assert fates(report) == {"a": Fate.BACK, "b": Fate.BACK, "c": Fate.WAITING, "d": Fate.WAITING}
    assert report.hosts[0].reason == "watch: watch is bad"


def test_failures_within_the_limit_do_not_stop_it() -> None:
    """The run is not all good all the same."""
    steps = Scripted(c_unpack="disk")
    report = Rollout(planned(failures_max=1), steps).run()
    assert report.verdict is Verdict.PARTLY
    assert report.reason == "1 host failed, 1 may: c"
    assert fates(report) == {"a": Fate.DONE, "b": Fate.DONE, "c": Fate.FAILED, "d": Fate.DONE}
    assert ("reload", ["d"]) in steps.asked


def test_a_bad_host_within_the_limit_goes_back_alone() -> None:
    """It must not stay on what it cannot serve."""
    steps = Scripted(b_watch="unwell")
    report = Rollout(planned(failures_max=1), steps).run()
    assert report.verdict is Verdict.PARTLY
    assert [asked for asked in steps.asked if asked[0] == "back"] == [("back", ["b"])]
    assert fates(report) == {"a": Fate.DONE, "b": Fate.BACK, "c": Fate.DONE, "d": Fate.DONE}
    assert steps.asked[-1] == ("watch", ["a", "c", "d"])


def test_a_single_batch_has_no_canary() -> None:
    """Then the limit counts from the start."""
    report = Rollout(planned("ab", batches="100%", failures_max=1), Scripted(a_reload="failed")).run()
    assert report.verdict is Verdict.PARTLY


def test_the_canary_is_the_first_batch_that_has_work() -> None:
    """When a deploy is resumed the hosts that are done need no proof."""
    steps = Scripted(b_reload="failed")
    report = Rollout(planned(done="a", failures_max=3), steps).run()
    assert report.reason == "the canary failed: b"
    assert fates(report)["a"] is Fate.ALREADY
    assert not any("a" in hosts for _, hosts in steps.asked)


def test_a_host_that_is_lost_in_its_reload_is_tried_back_and_unknown() -> None:
    """It may have reloaded."""
    steps = Scripted(b_reload="lost", b_back="unreachable")
    report = Rollout(planned(), steps).run()
    assert steps.asked[-2:] == [("back", ["b"]), ("back", ["a"])]
    assert fates(report)["a"] is Fate.BACK
    assert fates(report)["b"] is Fate.UNKNOWN
    assert report.hosts[1].reason == "reload: reload is bad; way back: back is bad"


def test_a_host_that_is_lost_before_its_reload_was_not_changed() -> None:
    """So there is no way back to try."""
    steps = Scripted(b_unpack="lost")
    report = Rollout(planned(), steps).run()
    assert fates(report)["b"] is Fate.UNKNOWN
    assert [asked for asked in steps.asked if asked[0] == "back"] == [("back", ["a"])]


def test_a_way_back_that_fails_is_said_so() -> None:
    """And the others go back all the same."""
    steps = Scripted(c_reload="failed", b_back="failed")
    report = Rollout(planned(), steps).run()
    assert fates(report) == {"a": Fate.BACK, "b": Fate.STUCK, "c": Fate.FAILED, "d": Fate.BACK}
    assert report.hosts[1].reason == "way back: back is bad"


def test_a_hook_that_fails_after_the_reload_takes_the_host_back() -> None:
    """The host is on the new version then, although the step failed."""
    steps = Scripted(a_reload="hook")
    report = Rollout(planned(), steps).run()
    assert [asked for asked in steps.asked if asked[0] == "back"] == [("back", ["a"])]
    assert fates(report)["a"] is Fate.BACK


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (0, {"a": Fate.WAITING, "b": Fate.WAITING}),
        (1, {"a": Fate.BEGUN, "b": Fate.WAITING}),
        (2, {"a": Fate.DONE, "b": Fate.WAITING}),
        (3, {"a": Fate.DONE, "b": Fate.BEGUN}),
        (4, {"a": Fate.DONE, "b": Fate.DONE}),
    ],
)
def test_an_interrupted_run_finishes_the_step_and_leaves_everything_as_it_is(
    after: int, expected: dict[str, Fate]
) -> None:
    """After any number of steps; a reload that is done is watched first."""
    asked = 0

    def stop() -> str:
        nonlocal asked
        asked += 1
        return "by SIGINT" if asked > after else ""

    steps = Scripted()
    report = Rollout(planned("ab", batches="1,1"), steps, stop=stop).run()
    assert fates(report) == expected
    assert "back" not in [step for step, _ in steps.asked]
    if after < 4:
        assert (report.verdict, report.reason) == (Verdict.INTERRUPTED, "by SIGINT")
    else:
        assert report.verdict is Verdict.DONE


def test_a_plan_with_nothing_to_do_is_done() -> None:
    """No step is asked for."""
    steps = Scripted()
    report = Rollout(planned(done="abcd"), steps).run()
    assert report.verdict is Verdict.DONE
    assert steps.asked == []
    assert {host.reason for host in report.hosts} == {"on 2.0 already"}


def test_a_host_that_failed_gets_no_more_steps() -> None:
    """Neither in its batch nor watched later."""
    steps = Scripted(b_unpack="disk")
    Rollout(planned("abc", batches="1,2", failures_max=1), steps).run()
    assert ("reload", ["c"]) in steps.asked
    assert steps.asked[-1] == ("watch", ["a", "c"])


@pytest.mark.parametrize(("batches", "failures_max"), [("1,100%", 0), ("100%", 3)])
@pytest.mark.parametrize("step", ["unpack", "shadow"])
def test_where_the_comparison_is_not_passed_no_engine_is_changed(
    step: str, batches: str, failures_max: int
) -> None:
    """However many hosts may fail, also in its own batch."""
    steps = Scripted(**{f"a_{step}": "differs"})
    plan = with_shadow(planned("abc", batches=batches, failures_max=failures_max))
    report = Rollout(plan, steps).run()
    assert report.verdict is Verdict.FAILED
    assert report.reason == "a failed, where the versions are compared; no engine was changed"
    assert not [asked for asked in steps.asked if asked[0] in {"reload", "watch", "back"}]
    assert fates(report)["a"] is Fate.FAILED


def test_where_the_comparison_is_passed_all_goes_on() -> None:
    steps = Scripted()
    report = Rollout(with_shadow(planned("ab", batches="1,100%")), steps).run()
    assert report.verdict is Verdict.DONE
    assert [step for step, _ in steps.asked][:4] == ["unpack", "shadow", "reload", "watch"]
    assert [host.steps for host in report.hosts] == [
        ["unpack", "shadow", "reload", "watch"],
        ["unpack", "reload", "watch"],
    ]
