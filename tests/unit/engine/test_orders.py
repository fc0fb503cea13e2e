"""What a supervisor tells a worker at its start."""

from __future__ import annotations

import json

import pytest

from engine.errors import ConfigError
from engine.process.orders import ENVIRONMENT, Orders, read_orders


def given(**fields: object) -> Orders:
    return read_orders({ENVIRONMENT: json.dumps({"listen_fd": 3, "control_fd": 4, "socket": "/s", **fields})})


def test_a_worker_alone_is_the_first_of_one() -> None:
    orders = given()
    assert (orders.slot, orders.count, orders.generation, orders.has_predecessor) == (0, 1, 1, False)


def test_orders_of_a_later_version_are_understood() -> None:
    assert given(slot=2, count=4, colour="red").slot == 2


def test_a_worker_is_not_started_by_hand() -> None:
    with pytest.raises(ConfigError, match="a supervisor starts workers; use `purgeline serve`"):
        read_orders({})


@pytest.mark.parametrize("text", ["", "{}", '{"listen_fd": "three"}', "[]"])
def test_orders_that_cannot_be_read_are_named(text: str) -> None:
    with pytest.raises(ConfigError, match="PURGELINE_WORKER: "):
        read_orders({ENVIRONMENT: text})
