"""The shadow gate: what is played of a recording, which host compares, and what is beyond the settings."""

import gzip
import os
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.config.tables import EngineConfig
from engine.recordings.gor import read
from release.agent.shadow_config import ENGINE_KEPT, shadow_of, text_of
from release.errors import SettingsError
from release.hosts.remote import Outcome
from release.inventory import Host
from release.rollout import shadow
from release.rollout.exits import GateError
from release.rollout.plan import HostState, Plan, deploy_plan
from release.settings import Settings
from tests.fakes.recorded import tasks

SETTINGS = Settings()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of what this machine may lose, for the settings that all tests here have."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(f"{__name__}.SETTINGS", Settings(cache_dir=str(folder)))
    return folder


# The recording


def test_the_first_requests_are_played_with_their_answers(tmp_path: Path, cache: Path) -> None:
    """From a copy of this machine's own, which goes afterwards, as what killed ones have left."""
    path = tmp_path / "t.gor"
    path.write_bytes(tasks(9))
    left = cache / "shadow/of-a-killed-one"
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    settings = msgspec.structs.replace(SETTINGS, shadow_requests=4)
    with shadow.recorded(str(path), settings) as recorded:
        assert recorded is not None
        found = list(read(recorded.path))
        assert recorded.requests == 4
    assert [entry.id for entry in found] == [f"a{number}" for number in range(4) for _ in range(2)]
    assert list((cache / "shadow").iterdir()) == []


def test_without_a_recording_there_is_none() -> None:
    with shadow.recorded("", SETTINGS) as recorded:
        assert recorded is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "there is no request in it"),
        (b"hello", "byte 0: the file ends in the middle of a message"),
        (tasks(2)[:-40], "the file ends in the middle of a message"),
        (tasks(2).replace(b"POST /v1/engine/task HTTP/1.1", b"nonsense"), "'nonsense' is no request line"),
        (tasks(1).replace(b"1 a0", b"9 a0"), "does not begin a message, which takes TYPE ID NANOSECONDS"),
        (None, "no such file"),
    ],
)
def test_a_recording_that_is_none_is_told_in_a_sentence(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    path = tmp_path / "t.gor"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=f"^--shadow: .*{why}"), shadow.recorded(str(path), SETTINGS):
        pass


def test_a_compressed_recording_that_is_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.gor.gz"
    path.write_bytes(gzip.compress(tasks(50))[:-100])
    with pytest.raises(SettingsError, match="cannot be read"), shadow.recorded(str(path), SETTINGS):
        pass


@pytest.mark.parametrize(
    ("requests", "slices", "parts"),
    [
        (10_000, 40, (10_000, 250, 40)),
        (2000, 40, (2000, 50, 40)),
        (1000, 40, (2000, 50, 40)),
        (75, 40, (2000, 50, 40)),
        (9, 40, (2000, 50, 40)),
        (1, 40, (2000, 50, 40)),
        (10, 1, (50, 50, 1)),
        (2001, 40, (2040, 51, 40)),
    ],
)
def test_slices_are_equal_and_never_too_small_for_a_latency(
    requests: int, slices: int, parts: tuple[int, int, int]
) -> None:
    assert shadow.parts_of(requests, slices) == parts


# The plan


def planned(**running: str) -> tuple[Plan, dict[str, HostState]]:
    states = {
        name: HostState(name=name, current=version, running=version, releases=[version])
        for name, version in running.items()
    }
    hosts = [Host(name=name) for name in running]
    return deploy_plan(hosts, states, "2.0", batches="1,100%"), states


def test_the_first_host_that_changes_compares_before_its_reload() -> None:
    plan = shadow.gated(*planned(a="2.0", b="1.0", c="1.0"))
    assert [host.steps for host in plan.hosts] == [
        [],
        ["unpack", "shadow", "reload", "watch"],
        ["unpack", "reload", "watch"],
    ]


def test_a_host_that_serves_nothing_has_nothing_to_compare_with() -> None:
    with pytest.raises(GateError, match="a has none"):
        shadow.gated(*planned(a="", b="1.0"))


# What was found


def ratios(p50: float, p90: float) -> dict[str, dict[str, float]]:
    """The median is far above what a ratio is at least: it does not count."""
    return {"p50": {"median": 9.0, "least": p50}, "p90": {"median": 9.0, "least": p90}}


SIDE = {
    "sent": 1000,
    "unanswered": 0,
    "same": 100,
    "different": 0,
    "latency": {"p50_ms": 1.0, "p90_ms": 2.0},
}


def report(**changes: Any) -> dict[str, Any]:
    return {
        "compared": 1000,
        "different": 0,
        "succeeded": 990,
        "recorded_tasks": 500,
        "results_compared": 500,
        "results_different": 0,
        "latency_ratio": ratios(1.0, 1.0),
        "engine": SIDE,
        "beside": SIDE,
        "changes": [],
        "differences": [],
        "results": [],
        **changes,
    }


def judge(found: dict[str, Any], *, cpu: float = 1.0, **settings: Any) -> Outcome:
    answer = {"ok": True, "report": found, "cpu_s": {"beside": 1.0, "engine": cpu}}
    outcome = Outcome(host="h1", op="shadow", ok=True, answer=answer)
    return shadow.judged(outcome, ("1.0", "2.0"), msgspec.structs.replace(SETTINGS, **settings))[0]


@pytest.mark.parametrize(
    ("changes", "cpu", "settings", "why"),
    [
        ({}, 1.0, {}, ""),
        ({"different": 5}, 1.0, {}, ""),
        ({"different": 6}, 1.0, {}, "another status for 6 of 1000 requests, 0.60% (0.50% allowed)"),
        ({"different": 1}, 1.0, {"shadow_status_share": 0.0}, "another status for 1 of 1000"),
        ({"results_different": 3}, 1.0, {}, "another result for 3 of 500 tasks, 0.60% (0.50% allowed)"),
        ({"latency_ratio": ratios(1.4, 1.0)}, 1.0, {}, "latency p50 at least 1.40 times as long (x 1.30"),
        ({"latency_ratio": ratios(1.0, 1.4)}, 1.0, {"shadow_latency_ratio": 2.0}, ""),
        ({}, 1.6, {}, "1.60 times the CPU time (x 1.30 allowed)"),
        ({"compared": 0}, 1.0, {}, "nothing was compared"),
        ({"succeeded": 0}, 1.0, {}, "no request was answered below 400"),
        ({"results_compared": 0}, 1.0, {}, "500 tasks are in the recording, none was made of them"),
        ({"results_compared": 0, "recorded_tasks": 0}, 1.0, {}, ""),
        ({"latency_ratio": {}}, 1.0, {}, "there is no measure of latency p50, latency p90"),
    ],
)
def test_what_is_beyond_the_settings_is_named(
    changes: dict[str, Any], cpu: float, settings: dict[str, Any], why: str
) -> None:
    outcome = judge(report(**changes), cpu=cpu, **settings)
    assert (outcome.ok, why in outcome.reason) == (not why, True), outcome.reason


def test_a_comparison_without_cpu_time_shows_nothing() -> None:
    answer = {"report": report(), "cpu_s": {"beside": 0.0, "engine": 0.0}}
    found = shadow.found(answer, ("1.0", "2.0"), SETTINGS)
    assert found.why_not == "nothing was shown: there is no measure of CPU time"


def test_a_version_that_answers_something_not_at_all_does_not_pass() -> None:
    """Nor where the version that serves does the same, and within what may differ."""
    for silent in ("engine", "beside"):
        outcome = judge(report(**{silent: {**SIDE, "unanswered": 1}}))
        assert (outcome.ok, "had no answer" in outcome.reason) == (False, True)


def test_examples_say_what_became_of_which_request() -> None:
    found = report(
        different=10,
        changes=[
            {"beside": 202, "engine": 500, "count": 9},
            {"beside": 200, "engine": 0, "count": 1},
            {"beside": 0, "engine": 0, "count": 7},
        ],
        differences=[
            {"request": "POST /x", "recorded": 202, "beside": 202, "engine": 500, "detail": "oh no"},
            {"request": "POST /x", "recorded": 202, "beside": 202, "engine": 500, "detail": "oh no"},
            {"request": "GET /y", "recorded": 0, "beside": 200, "engine": 0, "detail": ""},
        ],
    )
    assert judge(found).log[-5:] == [
        "9 x 202 became 500",
        "1 x 200 became no answer",
        "7 x no answer of either",
        "  POST /x: 202 became 500, recorded 202: oh no",
        "  GET /y: 200 became no answer",
    ]


# The configuration of a shadow

PRODUCTION = """
[engine]
listen = "10.0.0.1:9181"
name = "cdn-1"
due_s = 30
trace_url = "https://traces.example.com/v1/traces"
new_url = "https://new.example.com/"
[store]
url = "redis://:secret@redis/0"
[[auth.tokens]]
name = "cms"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
[[site]]
host = "*.example.com"
[[callback]]
host = "cms.example.com"
[alert]
url = "https://alerts.example.com/"
[canary]
interval_s = 60
[[door]]
kind = "purge"
listen = "10.0.0.1:6081"
[[origin]]
host = "*"
url = "http://origin.example.com"
[[layer]]
name = "edge"
[[node]]
name = "a1"
driver = "ats"
url = "https://cache.example.com"
ca_file = "/etc/ca.pem"
rules_file = "/etc/trafficserver/rules"
rules_state_file = "/etc/trafficserver/state"
headers = { X-Secret = "of the \\"cache\\"" }
[something]
new = "http://new.example.com"
"""


def test_a_shadow_names_nothing_but_its_sinks_and_its_folder() -> None:
    made = shadow_of(
        tomllib.loads(PRODUCTION),
        listen="127.0.0.1:1",
        data_dir="/f/var",
        sink="http://127.0.0.1:2",
        token="t",
    )
    assert tomllib.loads(text_of(made)) == made
    assert made["engine"] == {
        "listen": "127.0.0.1:1", "data_dir": "/f/var", "name": "cdn-1", "due_s": 30, "history_days": 0,
    }  # fmt: skip
    assert made["store"] == {"url": "sqlite:"}
    assert sorted(made) == ["auth", "engine", "layer", "node", "origin", "site", "store"]
    [node], [origin], [token] = made["node"], made["origin"], made["auth"]["tokens"]
    assert (node["url"], origin["url"]) == ("http://127.0.0.1:2", "http://127.0.0.1:2")
    assert "example.com" not in text_of({**made, "site": []})
    assert (token["name"], token["scopes"]) == ("shadow", ["submit", "read", "admin"])
    assert not node.keys() & {"ca_file", "rules_file", "rules_state_file"}


#: Keys that a shadow has not: the first three are its own, the others are of production.
LEFT_OUT = {"listen", "data_dir", "history_days", "history_max_bytes", "trace_url", "trusted_proxies"}


def test_each_key_of_the_engine_is_kept_or_left_out_on_purpose() -> None:
    """A new key has to be thought of: may a shadow reach something by it?"""
    assert sorted([*ENGINE_KEPT, *LEFT_OUT]) == sorted(EngineConfig.__struct_fields__)


def test_a_shadow_of_an_engine_without_tokens_takes_none() -> None:
    made = shadow_of({}, listen="127.0.0.1:1", data_dir="/f", sink="http://127.0.0.1:2", token="t")
    assert "auth" not in made
