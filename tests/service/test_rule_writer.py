"""Rules of a file as the way out of a node: what happens when no plug-in reads them, or the node goes away.

The plug-in's part, its state file, is written by the tests; tests/service/test_rules.py has a real one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from engine.nodes import holds, rule_writer
from engine.nodes.drivers.rules import read_rules
from tests.fakes.node import FakeNode
from tests.rigs.delivery_rig import rig_of
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "http://img.example.com/n/"
LATER = 2_000_000_000  #: an epoch that is not before any writing


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_writer, "LOOK_S", 0.02)


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
