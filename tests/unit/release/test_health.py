"""release.rollout.health: what a host's status says of the version that it should serve."""

from typing import Any

import pytest

from release.rollout.health import turned_stale, unread, unwell


def status(**more: Any) -> dict[str, Any]:
    """A host that serves 2.0 well."""
    return {"version": "2.0", "workers": [{"state": "accepting", "version": "2.0"}], "ready": True, **more}


def test_a_host_that_serves_its_version_and_is_ready_is_well() -> None:
    assert unwell(status(), "2.0") == ""


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"version": "1.0"}, "serves 1.0, not 2.0"),
        ({"version": ""}, "serves nothing, not 2.0"),
        ({"workers": [{"state": "draining", "version": "2.0"}]}, "no worker accepts"),
        ({"workers": None}, "no worker accepts"),
        (
            {"workers": [{"state": "accepting", "version": v} for v in ("1.0", "2.0")]},
            "a worker serves 1.0",
        ),
        ({"ready": False, "ready_detail": "no node"}, "is not ready: no node"),
        ({"ready": False}, "is not ready: no answer"),
    ],
)
def test_what_is_wrong_is_said_in_words(more: dict[str, Any], sentence: str) -> None:
    assert unwell(status(**more), "2.0") == sentence


def test_a_cache_whose_canary_turned_stale_since_the_reload_is_told_and_no_other() -> None:
    worker = {"state": "accepting", "version": "2.0", "stale": {"edge-1": "edge-1 keeps it"}}
    assert turned_stale(status(workers=[worker]), ()) == "edge-1 keeps it (canary of edge-1)"
    assert turned_stale(status(workers=[worker]), ["edge-1"]) == ""
    assert turned_stale(status(), ()) == ""  # a supervisor of a version before says nothing of it


def test_an_edit_that_a_hang_up_could_not_take_up_is_told() -> None:
    last = {"by": "SIGHUP", "ok": False, "error": "reload failed at start", "log": ["unknown key 'x'"]}
    assert unread(status(last_reload=last)) == (
        "goes on with the configuration that it had: reload failed at start: unknown key 'x'"
    )
    for others in (None, {}, {**last, "ok": True}, {**last, "by": ""}):
        assert unread(status(last_reload=others)) == ""
