"""The state that one supervisor hands to the next, which may be a version older or newer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.supervisor.errors import SupervisorError
from engine.supervisor.handover import Handover


def state(**changes: Any) -> dict[str, Any]:
    """Return a state as the first version with a handover wrote it, with changes."""
    worker = {
        "slot": 0,
        "generation": 3,
        "has_predecessor": False,
        "pid": 77,
        "state": "accepting",
        "version": "1.0",
        "is_leaving": False,
        "is_announced": True,
        "was_sent_go": True,
        "requests": 5,
        "errors_5xx": 0,
        "started_at": 12.5,
        "release": ["/srv/p/releases/1.0", "1.0"],
        "path": "/srv/p/shared/run/w0-g3.sock",
        "control_fd": 8,
        "log_fd": 9,
        "unread": "",
        "tail": "a line\n",
        "partial": "",
    }
    return {
        "format": 1,
        "version": "",
        "worker_command": None,
        "listen_fd": 5,
        "control_fd": 6,
        "lock_fd": 4,
        "client_fd": 7,
        "generation": 3,
        "started_at": 10.0,
        "release": ["/srv/p/releases/1.0", "1.0"],
        "table": {"listen": "a:1", "listen_backlog": 1, "data_dir": "var", "drain_timeout_s": 1.0},
        "last_reload": None,
        "restarts": [[2, 0]],
        "workers": [worker],
        **changes,
    }


def parse(document: object) -> Handover:
    return Handover.parse(json.dumps(document).encode())


def test_a_state_of_the_first_version_is_understood() -> None:
    handover = parse(state())
    assert (handover.generation, handover.restarts, handover.workers[0]["pid"]) == (3, [[2, 0]], 77)


def test_what_a_newer_version_adds_is_passed_over() -> None:
    newer = state(colour="red")
    newer["workers"][0]["mood"] = "good"
    assert parse(newer).generation == 3


def test_what_an_older_version_leaves_out_of_a_worker_may_be_left_out() -> None:
    older = state()
    for key in ("unread", "tail", "partial"):
        del older["workers"][0][key]
    assert parse(older).generation == 3


def test_what_is_needed_is_asked_for_before_anything_is_executed() -> None:
    short = state()
    del short["workers"][0]["pid"], short["workers"][0]["log_fd"]
    with pytest.raises(SupervisorError, match="a worker's state lacks log_fd, pid"):
        parse(short)


def test_another_format_is_refused() -> None:
    with pytest.raises(SupervisorError, match="--handover: format 2, this file takes 1"):
        parse(state(format=2))


@pytest.mark.parametrize("document", [7, [], {}, {"format": 1}, state(workers=None), "text"])
def test_anything_else_is_no_state(document: object) -> None:
    with pytest.raises(SupervisorError, match="--handover: not a supervisor's state"):
        parse(document)


def test_the_sockets_of_doors_are_handed_on_and_a_state_before_them_has_none() -> None:
    assert parse(state()).door_fds == {}
    assert parse(state(door_fds={"127.0.0.1:9182": 11})).door_fds == {"127.0.0.1:9182": 11}
