"""Plans: batches, order, steps, and what is printed of them."""

import functools
import random
from typing import TYPE_CHECKING, cast

import msgspec
import pytest

from release.errors import RepositoryError, SettingsError
from release.hosts.target import Wanted
from release.inventory import Host
from release.repository.index import Artefact, Index
from release.rollout import gates, localhost, plan
from release.rollout.plan import HostState
from release.settings import Settings

if TYPE_CHECKING:
    from release.repository.repository import Repository


def hosts(*names: str, canary: str = "") -> list[Host]:
    return [Host(name=name, groups=["canary"] if name == canary else []) for name in names]


def states(*names: str, version: str = "1.0", **facts: object) -> dict[str, HostState]:
    return {
        name: HostState(name=name, current=version, running=version, releases=[version], **facts)  # type: ignore[arg-type]
        for name in names
    }


@pytest.mark.parametrize(
    ("count", "text", "sizes"),
    [
        (1, "1,25%,100%", [1]),
        (3, "1,25%,100%", [1, 1, 1]),
        (10, "1,25%,100%", [1, 3, 6]),
        (100, "1,25%,100%", [1, 25, 74]),
        (5, "2", [2, 2, 1]),
        (5, "100%", [5]),
        (5, "50%", [3, 2]),
        (4, "1, 100%", [1, 3]),
        (0, "1,100%", []),
    ],
)
def test_batches_have_the_sizes_asked_for(count: int, text: str, sizes: list[int]) -> None:
    """Shares are of all hosts, rounded up; the last size is repeated while hosts are left."""
    names = [f"h{number}" for number in range(count)]
    batches = plan.split(names, plan.parse_batches(text))
    assert [len(batch) for batch in batches] == sizes
    assert [name for batch in batches for name in batch] == names


def test_every_host_is_in_exactly_one_batch() -> None:
    """Whatever the sizes are."""
    for seed in range(200):
        rng = random.Random(seed)
        names = [f"h{number}" for number in range(rng.randint(0, 60))]
        parts = [
            f"{rng.randint(1, 100)}%" if rng.random() < 0.5 else str(rng.randint(1, 9))
            for _ in range(rng.randint(1, 4))
        ]
        batches = plan.split(names, plan.parse_batches(",".join(parts)))
        assert [name for batch in batches for name in batch] == names
        assert all(batches)


@pytest.mark.parametrize("text", ["", "0", "1,,2", "101%", "-1", "1.5", "a", "0%", "1;2", "50 %", "²"])
def test_batches_that_make_no_sense_are_refused_by_name(text: str) -> None:
    """The error says which part, and what would be right."""
    with pytest.raises(SettingsError, match=r"is no size; write counts and percentages such as 1,25%,100%"):
        plan.parse_batches(text)


def test_hosts_of_the_group_canary_go_first() -> None:
    """The others keep the order of the inventory."""
    assert plan.order(hosts("c", "a", "b", canary="b")) == ["b", "c", "a"]


def test_a_host_that_has_the_version_unpacked_is_only_reloaded() -> None:
    """Salt, when it is on, comes first all the same."""
    known = states("a", "b")
    known["b"] = HostState(name="b", current="1.0", running="1.0", releases=["1.0", "2.0"])
    made = plan.deploy_plan(hosts("a", "b"), known, "2.0", batches="100%", with_salt=True)
    assert [host.steps for host in made.hosts] == [
        ["salt", "unpack", "reload", "watch"],
        ["salt", "reload", "watch"],
    ]
    without = plan.deploy_plan(hosts("a"), known, "2.0", batches="100%")
    assert without.hosts[0].steps == ["unpack", "reload", "watch"]


def test_a_host_on_the_version_gets_no_steps_and_keeps_its_batch() -> None:
    """So a resumed deploy has the batches of the first one."""
    known = states("a", "b", "c")
    known["a"] = HostState(name="a", current="2.0", running="2.0", releases=["1.0", "2.0"])
    made = plan.deploy_plan(hosts("a", "b", "c"), known, "2.0", batches="1,100%")
    assert [[host.host for host in batch] for batch in made.batches] == [["a"], ["b", "c"]]
    assert made.hosts[0].steps == []
    assert made.hosts[0].note == "on 2.0 already"
    assert not made.is_done


@pytest.mark.parametrize(("current", "running"), [("2.0", "1.0"), ("1.0", "2.0"), ("2.0", "")])
def test_a_host_is_on_a_version_when_it_serves_it_and_would_after_a_restart(
    current: str, running: str
) -> None:
    """Anything else is reloaded."""
    known = {"a": HostState(name="a", current=current, running=running, releases=["1.0", "2.0"])}
    assert plan.deploy_plan(hosts("a"), known, "2.0", batches="1").hosts[0].steps == ["reload", "watch"]


def test_a_rollback_needs_a_reload_only() -> None:
    """Hosts may go to versions of their own; the plan names one when it is the same for all."""
    known = states("a", "b", version="2.0")
    made = plan.move_plan("rollback", hosts("a", "b"), known, {"a": "1.0", "b": "0.9"}, batches="100%")
    assert [(host.to, host.steps) for host in made.hosts] == [
        ("1.0", ["reload", "watch"]),
        ("0.9", ["reload", "watch"]),
    ]
    assert made.version == ""
    same = plan.move_plan("rollback", hosts("a", "b"), known, {"a": "1.0", "b": "1.0"}, batches="100%")
    assert same.version == "1.0"
    assert plan.move_plan("rollback", hosts("a"), known, {"a": "2.0"}, batches="1").is_done


def test_a_rollback_leaves_out_hosts_without_a_target() -> None:
    """Such as those that could not be asked."""
    made = plan.move_plan("rollback", hosts("a", "b"), states("a", "b"), {"b": "0.9"}, batches="100%")
    assert [host.host for host in made.hosts] == ["b"]


def test_the_plan_reads_well() -> None:
    """What ``--dry-run`` and ``plan`` print."""
    known = states("cdn-1", "cdn-10")
    known["cdn-2"] = HostState(name="cdn-2")
    made = plan.deploy_plan(hosts("cdn-1", "cdn-10", "cdn-2"), known, "2.0", batches="1,100%")
    assert plan.plan_lines(made) == [
        "deploy 2.0: 3 hosts in 2 batches",
        "  batch 1 (canary): 1 host",
        "    cdn-1   1.0 -> 2.0: unpack -> reload -> watch",
        "  batch 2: 2 hosts",
        "    cdn-10  1.0 -> 2.0: unpack -> reload -> watch",
        "    cdn-2   nothing -> 2.0: unpack -> reload -> watch",
        "  stops at a failed canary, else past 0 failed hosts; then what was changed is taken back",
    ]
    done = plan.deploy_plan(hosts("cdn-1"), known, "1.0", batches="1")
    assert plan.plan_lines(done) == [
        "deploy 1.0: 1 host in 1 batch",
        "  batch 1: 1 host",
        "    cdn-1  1.0: nothing: on 1.0 already",
        "  nothing to do",
    ]


def test_the_same_input_gives_the_same_plan() -> None:
    """A plan can be compared with the one before."""
    names = [f"h{number}" for number in range(17)]
    known = states(*names)
    first = plan.deploy_plan(hosts(*names), known, "2.0", batches="1,25%,100%")
    shuffled = dict(random.Random(1).sample(sorted(known.items()), len(known)))
    assert plan.deploy_plan(hosts(*names), shuffled, "2.0", batches="1,25%,100%") == first
    assert plan.plan_document(first)["batches"][0][0] == {
        "host": "h0",
        "was": "1.0",
        "to": "2.0",
        "steps": ["unpack", "reload", "watch"],
        "note": "",
    }


def test_a_reload_is_done_also_where_the_version_runs() -> None:
    """For a new configuration."""
    made = plan.move_plan("reload", hosts("a"), states("a"), {"a": "1.0"}, batches="1")
    assert made.hosts[0].steps == ["reload", "watch"]


def test_unpacking_alone_is_done_on_all_hosts_at_once() -> None:
    """Nothing that serves changes by it."""
    known = states("a", "b", "c")
    known["b"] = HostState(name="b", current="1.0", running="1.0", releases=["1.0", "2.0"])
    made = plan.unpack_only(plan.deploy_plan(hosts("a", "b", "c"), known, "2.0", batches="1,100%"))
    assert [[(host.host, host.steps) for host in batch] for batch in made.batches] == [
        [("a", ["unpack"]), ("b", []), ("c", ["unpack"])]
    ]
    assert made.hosts[1].note == "has 2.0 already"


def test_a_host_that_has_the_version_with_other_bytes_gets_no_steps_and_is_a_reason_not_to_begin() -> None:
    """A name does not say what is there: the artefact's digest does."""
    known = states("a", "b", "c", version="2.0")
    known["a"] = msgspec.structs.replace(known["a"], digests={"2.0": "aa" * 32})
    known["b"] = msgspec.structs.replace(known["b"], digests={"2.0": "bb" * 32})
    known["c"] = HostState(name="c")
    wanted = {name: artefact("2.0", "aa" * 32) for name in known}
    made = plan.deploy_plan(
        hosts("a", "b", "c"), known, "2.0", batches="100%", digests=dict.fromkeys(known, "aa" * 32)
    )
    assert [(host.steps, host.note) for host in made.hosts] == [
        ([], "on 2.0 already"),
        ([], "has 2.0 with other bytes"),
        (["unpack", "reload", "watch"], ""),
    ]
    (reason,) = gates.other_bytes(known, wanted)
    assert reason.startswith(
        "b: 2.0 is unpacked there with other bytes (SHA-256 bbbbbbbbbbbb…, the index has aaa"
    )


def test_this_machines_own_repository_counts_for_the_commit_that_it_was_packed_from() -> None:
    """A new commit under the same --release was "nothing to do"."""

    class Opened:
        def index(self) -> Index:
            return Index(artefacts=(artefact("2.0", "aa"),))

    opened = cast("Repository", Opened())
    here = HostState(name="local", python="cp311", platform="linux_x86_64")
    published = functools.partial(localhost.is_published, opened, state=here, is_dry=False)
    assert published("2.0", revision="a" * 40)
    assert not published("2.1", revision="b" * 40)
    with pytest.raises(
        RepositoryError, match=r"2\.0 is published with other bytes: made from commit aaaaaaaaaa, and"
    ):
        published("2.0", revision="b" * 40)


def artefact(version: str, sha256: str) -> Artefact:
    return Artefact(
        file_name=f"purgeline-{version}.tar.gz",
        version=version,
        sha256=sha256,
        size=1,
        python="cp311",
        platform="linux_x86_64",
        revision="a" * 40,
        published_at=0,
    )


def one_host(**counts: int) -> dict[str, HostState]:
    return {"h1": msgspec.structs.replace(states("h1")["h1"], **counts)}


@pytest.mark.parametrize(
    ("host", "asked", "writes_units", "why"),
    [
        ({"workers": 2}, 4, False, "h1: its engine has 2 workers, and --workers 4 is for a start"),
        ({"workers": 0, "unit_workers": 2}, 4, False, "h1: systemd's unit starts 2, whatever --workers says"),
        ({"workers": 0, "unit_workers": 2}, 4, True, ""),  # the states write the unit anew
        ({"workers": 0, "unit_workers": 4}, 4, False, ""),
        ({"workers": 0}, 4, False, ""),
    ],
)
def test_a_number_of_workers_that_a_host_would_pass_over_is_refused(
    host: dict[str, int], asked: int, writes_units: bool, why: str
) -> None:
    wanted = Wanted(workers=asked)
    settings = Settings(workers=asked)
    reasons = gates.check_options(one_host(**host), wanted, settings, writes_units=writes_units)
    assert [why in reason for reason in reasons] == [True] * bool(why)
    direct = msgspec.structs.replace(settings, service="direct")
    if not host["workers"]:
        assert gates.check_options(one_host(**host), wanted, direct) == []


@pytest.mark.parametrize(
    ("host", "line"),
    [
        (
            {"workers": 2},
            "h1: its engine goes on with 2 workers; workers = 4 of the settings is for",
        ),
        ({"workers": 0, "unit_workers": 2}, "h1: systemd's unit starts 2, not workers = 4 of the settings"),
        ({"workers": 4, "unit_workers": 2}, ""),
        ({"workers": 0}, ""),
    ],
)
def test_workers_in_the_settings_that_are_not_what_runs_are_told(host: dict[str, int], line: str) -> None:
    lines = gates.other_workers(one_host(**host), Wanted(), Settings(workers=4))
    assert [line in said for said in lines] == [True] * bool(line)
