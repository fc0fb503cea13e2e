"""release.rollout.report and exits: hosts that were left out, and the codes that scripts read."""

import pytest

from release.errors import (
    ArtefactError,
    HostError,
    LockedError,
    ReleaseError,
    RepositoryError,
    SettingsError,
    VersionError,
)
from release.hosts.remote import Outcome
from release.rollout.exits import GateError, code_of, code_of_outcomes
from release.rollout.report import Fate, Report, Verdict, add_left_out

REFUSED = Outcome(host="a", op="facts", ok=False, answer={"ok": False}, reason="no release")
GONE = Outcome(host="b", op="facts", ok=False, reason="no answer")


def test_hosts_that_were_left_out_count_as_failed_in_a_run_that_is_done() -> None:
    report = add_left_out(Report(Verdict.DONE, "", [], 1.0), [REFUSED, GONE])
    assert (report.verdict, report.reason) == (Verdict.PARTLY, "left out: a, b")
    assert [(host.plan.host, host.fate) for host in report.hosts] == [("a", Fate.FAILED), ("b", Fate.UNKNOWN)]


def test_a_run_that_failed_stays_failed_with_both_reasons() -> None:
    report = add_left_out(Report(Verdict.FAILED, "the canary failed: c", [], 1.0), [GONE])
    assert (report.verdict, report.reason) == (Verdict.FAILED, "the canary failed: c; left out: b")


def test_a_run_without_hosts_left_out_is_the_same_report() -> None:
    report = Report(Verdict.DONE, "", [], 1.0)
    assert add_left_out(report, []) is report


@pytest.mark.parametrize(("failed", "code"), [([], 0), ([REFUSED], 1), ([GONE], 3), ([REFUSED, GONE], 3)])
def test_a_host_that_cannot_be_asked_weighs_more_than_one_that_refuses(
    failed: list[Outcome], code: int
) -> None:
    assert code_of_outcomes(failed) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("x"), 2),
        (LockedError("x"), 4),
        (GateError("x"), 3),
        (RepositoryError("x"), 3),
        (VersionError("x"), 3),
        (ArtefactError("x"), 3),
        (HostError("a", "x"), 1),
        (ReleaseError("x"), 1),
    ],
)
def test_the_kind_of_an_error_is_its_exit_code(error: ReleaseError, code: int) -> None:
    assert code_of(error) == code
