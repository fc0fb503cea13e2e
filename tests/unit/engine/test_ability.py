"""What a node is sent for an operation that a task was accepted for, when its cache was another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from engine.config.tables import NodeConfig
from engine.nodes import drivers
from engine.nodes.ability import host_wide_for, incapable_of, incapable_reason
from engine.tasks.words import Operation, Outcome

if TYPE_CHECKING:
    from engine.config.tables import Driver

URL = "http://a.com/x"


def node(driver: Driver, **keys: Any) -> NodeConfig:
    return NodeConfig(name="e1", driver=driver, url="http://127.0.0.1:1", **keys)


@pytest.mark.parametrize("driver", ["ats", "nginx", "squid"])
def test_a_soft_purge_is_sent_and_read_as_a_hard_one_where_there_is_none(driver: Driver) -> None:
    cache = node(driver)
    assert drivers.sent_for(cache, Operation.SOFT_URL) is Operation.PURGE_URL
    soft, hard = (drivers.requester(cache, one)(URL) for one in (Operation.SOFT_URL, Operation.PURGE_URL))
    assert soft == hard
    assert drivers.read(cache, Operation.SOFT_URL, 404, 0) is Outcome.ABSENT


def test_a_soft_purge_by_key_is_a_ban_where_keys_are_bans() -> None:
    cache = node("varnish", key_mode="ban")
    assert "Purgeline-Soft" not in drivers.requester(cache, Operation.SOFT_KEY)("a.com/k")


def test_what_a_cache_can_do_nothing_of_the_kind_of() -> None:
    assert Operation.PURGE_PREFIX in incapable_of(node("squid"))
    assert Operation.PURGE_PREFIX not in incapable_of(node("nginx", wildcard=True))
    assert incapable_of(node("varnish")) == frozenset()
    for driver in ("varnish", "ats", "nginx", "squid"):
        assert not incapable_of(node(driver)) & {Operation.PURGE_URL, Operation.SOFT_URL, Operation.PREFETCH}


def test_the_reason_names_the_node_its_driver_and_the_operation() -> None:
    assert incapable_reason(node("squid"), Operation.PURGE_PREFIX) == (
        "incapable: squid, as e1 is configured now, cannot purge by prefix; it is sent when the node can"
    )


@pytest.mark.parametrize(
    ("config", "operation", "wide"),
    [
        (NodeConfig(name="v", driver="varnish", url="http://v"), Operation.PURGE_URL, Operation.PURGE_HOST),
        (
            NodeConfig(name="v", driver="varnish", url="http://v"),
            Operation.PURGE_PREFIX,
            Operation.PURGE_HOST,
        ),
        (NodeConfig(name="v", driver="varnish", url="http://v"), Operation.PURGE_HOST, None),
        (NodeConfig(name="v", driver="varnish", url="http://v"), Operation.PREFETCH, None),
        (NodeConfig(name="n", driver="nginx", url="http://n"), Operation.PURGE_URL, None),
        (
            NodeConfig(name="n", driver="nginx", url="http://n", wildcard=True),
            Operation.SOFT_URL,  # hard there in any case
            Operation.SOFT_HOST,
        ),
        (NodeConfig(name="s", driver="squid", url="http://s"), Operation.PURGE_URL, None),
    ],
)
def test_which_purges_a_purge_of_the_host_can_replace(
    config: NodeConfig, operation: Operation, wide: Operation | None
) -> None:
    assert host_wide_for(config, operation) is wide


def test_no_soft_purge_becomes_a_hard_one_where_it_would_be_soft() -> None:
    varnish = NodeConfig(name="v", driver="varnish", url="http://v")
    wide = host_wide_for(varnish, Operation.SOFT_URL)
    able = drivers.capabilities(varnish)
    assert wide is None or (Operation.SOFT_URL in able) == (wide in able)
