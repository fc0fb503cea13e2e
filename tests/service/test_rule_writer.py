"""Rules of a file as the way out of a node: what happens when no plug-in reads them, or the node goes away.

The plug-in's part, its state file, is written by the tests; tests/service/test_rules.py has a real one.
"""

from __future__ import annotations

import asyncio
import fcntl
import time
from typing import TYPE_CHECKING, Any

import pytest

from engine.nodes import holds, rule_file, rule_writer
from engine.nodes.drivers.rules import read_rules
from tests.fakes.node import FakeNode
from tests.rigs.delivery_rig import rig_of
from tests.waiting import POLL_S, until

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "http://img.example.com/n/"
LATER = 2_000_000_000  #: an epoch that is not before any writing


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_writer, "LOOK_S", 0.02)
    monkeypatch.setattr(rule_writer, "AHEAD_MAX_S", 0.0)


def table(folder: Path) -> dict[str, Any]:
    return {
        "driver": "ats",
        "rules_file": str(folder / "rules"),
        "rules_state_file": str(folder / "state"),
    }


def read_by_plugin(folder: Path, *, but: str = "nothing", epoch: int = LATER) -> None:
    """Have the state say that the plug-in read the file, and passed a pattern over."""
    _, rules = read_rules((folder / "rules").read_text())
    lines = [
        f"{pattern} {epoch} {rule.expiry} STALE\n" for pattern, rule in rules.items() if but not in pattern
    ]
    (folder / "state").write_text("".join(lines))


async def test_what_no_plugin_reads_is_kept_with_the_reason_and_acked_when_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent to the node; an older state, and one of an older clock, are no evidence."""
    monkeypatch.setattr(rule_writer, "PATIENCE_S", 0.3)
    monkeypatch.setattr(holds, "PAUSE_FIRST_S", 0.1)
    with FakeNode() as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, {"edge-1": table(tmp_path)}) as rig:
            task = rig.submit(kind="prefix", targets=[PREFIX])
            await until((tmp_path / "rules").exists)
            read_by_plugin(tmp_path, epoch=9)
            found = await rig.stored(task, "partial")
            [error] = found["errors"][:1]
            assert error["reason"].startswith("refused: the plug-in regex_revalidate has not read")
            assert str(tmp_path / "state") in error["reason"]
            assert ("refused:edge-1", "error") in [alert[:2] for alert in rig.alerts]

            def is_done() -> bool:
                read_by_plugin(tmp_path)
                return '"state":"done"' in (rig.store.document(task.id) or b"").decode().replace(" ", "")

            await until(is_done, timeout_s=20)
            assert edge.requests == []


async def test_a_rule_that_the_plugin_passes_over_fails_and_the_others_count(tmp_path: Path) -> None:
    """So does one that is too long for it, which is not written."""
    long = f"http://img.example.com/{'x' * 2000}"
    with FakeNode() as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, {"edge-1": table(tmp_path)}) as rig:
            task = rig.submit(kind="prefix", targets=[PREFIX, f"{PREFIX}bad", long])
            await until((tmp_path / "rules").exists)
            read_by_plugin(tmp_path, but="bad")
            found = await rig.stored(task, "failed")
            assert (found["counter"], found["failed"]) == (1, 2)
            reasons = {error["target"]: error["reason"] for error in found["errors"]}
            assert "cannot compile it" in reasons[f"{PREFIX}bad"]
            assert "regex_revalidate reads 2000" in reasons[long]
            assert "xxx" not in (tmp_path / "rules").read_text()


async def test_a_file_that_cannot_be_written_is_an_operators_matter(tmp_path: Path) -> None:
    with FakeNode() as edge:
        tables = {"edge-1": {**table(tmp_path), "rules_file": str(tmp_path / "nowhere/rules")}}
        async with rig_of(tmp_path, {"edge-1": edge}, tables) as rig:
            task = rig.submit(kind="host", targets=["img.example.com"])
            [error] = (await rig.stored(task, "partial"))["errors"]
            assert "No such file or directory" in error["reason"]
            assert "the engine of this machine writes it" in error["reason"]
            assert (await rig.stored(rig.submit(targets=[f"{PREFIX}a"]), "done"))["counter"] == 1


async def test_after_the_node_was_away_rules_are_written_anew_and_keep_no_other_purge_waiting(
    tmp_path: Path,
) -> None:
    """The node is ready, and purges URLs, before a rule of its delay queue is in force."""
    with FakeNode() as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, {"edge-1": table(tmp_path)}) as rig:
            node = rig.node("edge-1")
            task = rig.submit(kind="prefix", targets=[PREFIX])
            await until(lambda: node.in_flight == 1 and (tmp_path / "rules").exists())
            before = (tmp_path / "rules").read_text()
            node.health.go_down("a test")
            node._gone_down("a test")
            assert node.in_flight == 0
            read_by_plugin(tmp_path)  # what was written before does not count for what is written anew
            await until(lambda: (tmp_path / "rules").read_text() != before)
            await until(lambda: node.state == "ready")
            assert (await rig.stored(rig.submit(targets=[f"{PREFIX}a"]), "done"))["counter"] == 1
            assert (await rig.stored(task, "partial"))["delayed"] == 1
            read_by_plugin(tmp_path)
            assert (await rig.stored(task, "done"))["counter"] == 1


async def test_a_cancelled_purge_is_not_queued_again_when_its_node_goes_down(tmp_path: Path) -> None:
    """It is cancelled, no row of the delay queue, and its rule is not written anew."""
    with FakeNode() as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, {"edge-1": table(tmp_path)}) as rig:
            node = rig.node("edge-1")
            task = rig.submit(kind="prefix", targets=[PREFIX])
            await until(lambda: node.in_flight == 1 and (tmp_path / "rules").exists())
            rig.dispatch.cancel(task)
            node.health.go_down("a test")
            node._gone_down("a test")
            found = await rig.stored(task, "cancelled")
            assert (found["cancelled"], found["delayed"]) == (1, 0)
            assert (node.in_flight, node.waiting_count, rig.load.live) == (0, 0, 0)


async def test_a_rule_that_another_program_took_out_of_the_file_is_written_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plug-in has not passed it over: it never saw it. The second time an operator has to know.

    Two purges share the rule, which is of all hosts.
    """
    monkeypatch.setattr(holds, "PAUSE_FIRST_S", 0.1)
    rules = tmp_path / "rules"
    with FakeNode() as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, {"edge-1": table(tmp_path)}) as rig:

            async def take_out(other: str) -> None:
                """Replace the file; what the plug-in reads is the next purge's writing."""
                await until(lambda: rules.exists() and "/mine" in rules.read_text())
                rules.write_text("# by another program\n")
                rig.submit(kind="prefix", targets=[f"{PREFIX}{other}"])
                await until(lambda: other in rules.read_text())
                assert "/mine" not in rules.read_text()
                read_by_plugin(tmp_path)

            targets = [f"{PREFIX}mine", f"{PREFIX}mine".replace("//", "//www.")]
            tasks = [rig.submit(kind="prefix", targets=[target]) for target in targets]
            await take_out("first")
            await take_out("second")
            for task in tasks:
                [error] = (await rig.stored(task, "partial"))["errors"]
                assert "another program takes rules out" in error["reason"]
            both = asyncio.gather(*(rig.stored(task, "done") for task in tasks))
            while not both.done():  # one is tried, and the other follows
                read_by_plugin(tmp_path)
                await asyncio.sleep(POLL_S)
            assert [document["counter"] for document in both.result()] == [1, 1]


async def test_whatever_is_wrong_with_the_files_is_told_and_the_next_purge_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that is not let go, and a path that no file can have."""
    monkeypatch.setattr(rule_file, "LOCK_S", 0.1)
    with FakeNode() as edge:
        tables = {
            "edge-1": table(tmp_path),
            "edge-2": {**table(tmp_path / "2"), "rules_file": "/" + "x" * 300},
        }
        async with rig_of(tmp_path, {"edge-1": edge, "edge-2": edge}, tables) as rig:
            with (tmp_path / "rules.lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                for host in ("img.example.com", "www.example.com"):
                    found = await rig.stored(rig.submit(kind="host", targets=[host]), "partial")
                    reasons = "".join(sorted(error["reason"] for error in found["errors"]))
                    assert f"{tmp_path}/rules.lock: another process has kept it locked" in reasons
                    assert "File name too long" in reasons
            rig.submit(kind="host", targets=["css.example.com"])
            await until((tmp_path / "rules").exists)


async def test_a_full_file_takes_no_other_pattern_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one batch what the file has already is purged again."""
    monkeypatch.setattr(rule_file, "RULES_MAX", 2)
    with FakeNode() as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, {"edge-1": table(tmp_path)}) as rig:
            first = rig.submit(kind="prefix", targets=[PREFIX])
            await until((tmp_path / "rules").exists)
            read_by_plugin(tmp_path)
            await rig.stored(first, "done")
            task = rig.submit(kind="prefix", targets=[f"{PREFIX}new", PREFIX])
            await until(lambda: rig.alerts)
            read_by_plugin(tmp_path)
            found = await rig.stored(task, "partial")
            assert (found["counter"], found["delayed"]) == (1, 1)
            assert "rules that have not expired" in found["errors"][0]["reason"]


async def test_many_writings_do_not_date_the_file_ahead_of_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the plug-in would take what somebody edits for older than what it read."""
    monkeypatch.setattr(rule_writer, "AHEAD_MAX_S", 5.0)
    rules = tmp_path / "rules"
    with FakeNode() as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, {"edge-1": table(tmp_path)}) as rig:

            async def write(name: str) -> None:
                rig.submit(kind="prefix", targets=[f"{PREFIX}{name}"])
                await until(lambda: rules.exists() and name in rules.read_text())

            for name in ("first", "second", "third"):
                await write(name)
            assert rules.stat().st_mtime <= time.time()
