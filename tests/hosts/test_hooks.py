"""Hooks: what they are told, and what their failure means."""

import time
from pathlib import Path

import pytest

from release.errors import SettingsError
from release.hosts import journal
from release.rollout.hooks import HookError, Hooks
from tests.waiting import wait_until

RUN = journal.new_run("deploy", version="2.0", root="/srv/p", hosts=["a", "b"])


def test_a_hook_is_told_what_it_is_about(tmp_path: Path) -> None:
    """In its environment."""
    seen = tmp_path / "seen"
    Hooks({"pre-reload": f"env | grep ^PURGELINE_ > {seen}"}, RUN, timeout_s=10).call(
        "pre-reload", ["a", "b"]
    )
    told = dict(line.split("=", 1) for line in seen.read_text().splitlines())
    assert told["PURGELINE_HOOK"] == "pre-reload"
    assert told["PURGELINE_HOSTS"] == "a,b"
    assert told["PURGELINE_VERSION"] == "2.0"
    assert told["PURGELINE_ROOT"] == "/srv/p"
    assert told["PURGELINE_ACTION"] == "deploy"
    assert told["PURGELINE_DEPLOY_ID"] == RUN.deploy_id


def test_what_has_no_hook_is_not_called() -> None:
    """Nothing happens."""
    Hooks({}, RUN, timeout_s=10).call("post-deploy", ["a"])


def test_a_hook_that_fails_says_which_and_how() -> None:
    """With its command."""
    with pytest.raises(HookError, match="the hook post-deploy ended with 3: exit 3"):
        Hooks({"post-deploy": "exit 3"}, RUN, timeout_s=10).call("post-deploy", ["a"])


def test_a_hook_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    """After its time."""
    pid = tmp_path / "pid"
    began = time.monotonic()
    with pytest.raises(HookError, match=r"took longer than 0\.5 s"):
        Hooks({"pre-deploy": f"sleep 60 & echo $! > {pid}; wait"}, RUN, timeout_s=0.5).call(
            "pre-deploy", ["a"]
        )
    assert time.monotonic() - began < 45
    state = Path(f"/proc/{pid.read_text().strip()}/stat")
    wait_until(
        lambda: not state.exists() or state.read_text().rpartition(")")[2].split()[0] in "ZX", what="its end"
    )


def test_a_hook_that_nothing_calls_is_refused() -> None:
    """A typing error must not be a hook that never runs."""
    with pytest.raises(SettingsError, match="nothing calls 'pre-relaod'; known: pre-deploy"):
        Hooks({"pre-relaod": "true"}, RUN, timeout_s=10)


def test_a_hooks_output_is_not_the_result(capfd: pytest.CaptureFixture[str]) -> None:
    """It goes to standard error."""
    Hooks({"pre-deploy": "echo hello"}, RUN, timeout_s=10).call("pre-deploy", ["a"])
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "hello\n")
