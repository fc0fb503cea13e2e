"""What a reload is asked for, and what it cannot change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.supervisor.errors import SupervisorError
from engine.supervisor.reloads import change_that_needs_a_restart, seconds
from engine.supervisor.table import settle


def test_a_span_may_be_left_out() -> None:
    assert seconds({}, "bake_s", 5.0) == 5.0
    assert seconds({"bake_s": 0}, "bake_s", 5.0) == 0.0
    assert seconds({"bake_s": 3600}, "bake_s", 5.0) == 3600.0


@pytest.mark.parametrize("value", [True, None, "5", -1, 3600.5, float("nan"), float("inf"), [5]])
def test_a_span_is_a_number_from_0_to_3600(value: Any) -> None:
    with pytest.raises(SupervisorError, match=r"bake_s: .* is no number of seconds from 0 to 3600"):
        seconds({"bake_s": value}, "bake_s", 5.0)


def test_address_and_data_folder_need_a_restart() -> None:
    table = settle({}, {})
    assert change_that_needs_a_restart(table, replace(table, drain_timeout_s=1.0, listen_backlog=1)) == ""
    assert change_that_needs_a_restart(table, replace(table, listen="10.0.0.1:80")) == (
        "engine.listen has changed from 127.0.0.1:9181 to 10.0.0.1:80"
    )
    assert "engine.data_dir has changed from var to b" in change_that_needs_a_restart(
        table, replace(table, data_dir="b")
    )
