"""Values of canaries, their key, and what came of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from engine.config.load import parse
from engine.config.tables import CanaryConfig
from engine.errors import ConfigError, StoreError
from engine.nodes.canary import Canary
from engine.observe import merged
from engine.observe.counters import Stats
from engine.process.canary_stores import read_or_make_key
from engine.proof.canary_results import CanaryResults, CanaryState, Found

if TYPE_CHECKING:
    from pathlib import Path


def canary(key: bytes = b"k" * 32) -> Canary:
    made = Canary(CanaryConfig())
    made.key = key
    return made


def test_a_value_is_own_to_those_who_have_the_key() -> None:
    value = canary().mint()
    assert re.fullmatch(r"[0-9a-f]{32}\.[0-9a-f]{32}", value)
    assert canary().is_own(value)
    assert canary().mint() != value
    assert not canary(b"x" * 32).is_own(value)
    assert not canary(b"").is_own(value)  # before the store was read


@pytest.mark.parametrize("change", [str.upper, lambda v: v + "\n", lambda v: v[::-1], lambda v: v[:-1] + "g"])
def test_a_value_that_was_changed_is_nobodys(change: Any) -> None:
    assert not canary().is_own(change(canary().mint()))


def test_a_canary_may_be_on_the_host_that_is_looked_at() -> None:
    assert canary().url("a-url") == "http://canary.purgeline/.well-known/purgeline/a-url"
    assert canary().url("a", "a.com:81") == "http://a.com:81/.well-known/purgeline/a"


def test_whoever_asks_first_makes_the_key_and_all_others_read_it(tmp_path: Path) -> None:
    path = tmp_path / "var" / "canary.key"
    key = read_or_make_key(path)
    assert (len(key), read_or_make_key(path)) == (32, key)
    assert [found.name for found in path.parent.iterdir()] == ["canary.key"]
    path.write_bytes(b"short")
    with pytest.raises(StoreError, match="holds 5 bytes, not 32: remove it"):
        read_or_make_key(path)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"interval_s": 0.01}, "canary.interval_s: 0.01 is out of range"),
        ({"interval_s": -1}, "canary.interval_s"),
        ({"path": "/x"}, "a path that begins and ends with /"),
        ({"path": "/a b/"}, "canary.path"),
        ({"path": '/a"; return (fail);"/'}, "canary.path"),
        ({"path": "/v1/engine/"}, "a path of the engine's own interface"),
        ({"host": "Canary.example.com"}, "canary.host"),
        ({"host": "a.com/x"}, "canary.host"),
        ({"listen": ":1"}, "canary.listen: ':1' is not HOST:PORT"),
        ({"listen": "127.0.0.1:9181"}, "canary.listen: 127.0.0.1:9181 is engine.listen"),
        ({"intervals": 1}, "unknown key 'intervals'; did you mean 'interval_s'?"),
    ],
)
def test_settings_that_cannot_work_are_refused(keys: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse({"canary": keys})
    assert text in str(caught.value)


def test_a_node_is_as_fresh_as_the_worst_of_its_kinds_and_each_is_counted() -> None:
    stats = Stats()
    results = CanaryResults(stats)
    assert results.document("e1") is None
    fresh = Found(CanaryState.FRESH, fresh_s=0.004)
    results.take("e1", {"url": fresh, "host": Found(CanaryState.STALE, "kept")})
    document = results.document("e1") or {}
    assert (document["state"], document["reason"]) == ("stale", "kept")
    assert document["kinds"]["url"] == {"state": "fresh", "reason": "", "fresh_s": 0.004}
    assert results.stale_nodes() == {"e1": "kept"}
    assert stats.canary_stale == {("e1", "url"): 0, ("e1", "host"): 1}
    assert sum(stats.canary_fresh_s["e1", "url"].counts) == 1
    results.take("e1", {"url": fresh})
    assert (results.stale_nodes(), stats.canary_stale["e1", "host"]) == ({}, 1)


def test_of_several_workers_the_latest_result_is_shown() -> None:
    def shown(at: float | None) -> list[dict[str, Any]]:
        counts = dict.fromkeys(("waiting", "in_flight", "delayed", "acked", "refused", "failed"), 0)
        canary = None if at is None else {"state": "fresh", "at": at}
        times = {"oldest_delayed_s": 0, "last_error_at": 0}
        return [{"name": "e1", "state": "ready", "canary": canary, **counts, **times}]

    [node] = merged.nodes([shown(None), shown(5), shown(3)])
    assert node["canary"]["at"] == 5
