"""A node whose name stands for several caches, or comes to stand for another: none is passed over in silence.

The engine has a ``/etc/hosts`` of its own, in a mount namespace, which a test may change while it runs.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from engine.nodes import lookups
from engine.nodes.address import SeveralAddressesError
from engine.nodes.health import NodeState
from tests.fakes.node import FakeNode, Held
from tests.rigs.delivery_rig import rig_of
from tests.rigs.engine_process import ROOT, EngineProcess, fake_table
from tests.waiting import until, wait_until

if TYPE_CHECKING:
    from pathlib import Path

NAME = "cache.purgeline-test"
MOUNT = 'mount --bind "$0" /etc/hosts && exec "$@"'
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a /etc/hosts of one's own takes root")


class Hosts:
    """A file of hosts, and a command that sees it as ``/etc/hosts``."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "hosts"
        self.command = ["unshare", "--mount", "sh", "-c", MOUNT, str(self._path)]

    def name(self, *addresses: str) -> None:
        """Let `NAME` stand for these addresses."""
        lines = ["127.0.0.1 localhost", *(f"{address} {NAME}" for address in addresses)]
        self._path.write_text("".join(f"{line}\n" for line in lines))


@needs_root
def test_no_cache_is_purged_while_a_name_stands_for_several(tmp_path: Path) -> None:
    """The check of the configuration and the node say so; the task waits, and goes on when that is mended."""
    hosts = Hosts(tmp_path)
    hosts.name("127.0.0.1", "127.0.0.2")
    with FakeNode() as node, FakeNode() as other:
        tables = fake_table(f"http://{NAME}:{node.port}", name="edge-1") + fake_table(
            other.url, name="edge-2"
        )
        with EngineProcess(tmp_path, tables, prefix=hosts.command) as engine:
            wait_until(lambda: engine.node("edge-1")["state"] == "down", what="the node that is several")
            assert "several addresses (127.0.0.1, 127.0.0.2)" in engine.node("edge-1")["last_error"]
            wait_until(lambda: f"'{NAME}' has several addresses" in engine.log(), what="the log")
            check = [sys.executable, "-m", "engine", "check-config", str(engine.config_path)]
            command = [*hosts.command, *check]
            told = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=60)
            assert told.returncode == 2
            assert b"node 'edge-1': url: 'cache.purgeline-test' has several addresses" in told.stderr
            task = engine.submit(["http://a.com/x"])
            found = engine.wait_for(task, "partial")
            assert (found["counter"], found["delayed"], node.urls) == (1, 1, [])
            assert "give each a [[node]] of its own" in found["errors"][0]["reason"]
            hosts.name("127.0.0.1", "::1")
            assert engine.wait_for(task, "done")["counter"] == 2
            assert node.urls == ["http://a.com/x"]


@needs_root
def test_a_name_that_is_not_known_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "engine.toml"
    path.write_text(fake_table("http://none.invalid:1", name="edge-1"))
    command = [sys.executable, "-m", "engine", "check-config", str(path)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=60)
    assert told.returncode == 0
    assert b"warning: node 'edge-1': 'none.invalid' cannot be looked up here" in told.stderr


async def test_a_name_that_moves_leaves_no_connection_to_the_cache_before(tmp_path: Path) -> None:
    """What is in flight there is sent again."""
    held = Held()
    with FakeNode(held) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, connections_per_node=1) as rig:
            task = rig.submit(targets=["http://a.com/x"])
            await until(lambda: len(edge.requests) == 1)
            channel = rig.node("edge-1").purges
            channel.leave(frozenset({"127.0.0.1"}))
            await asyncio.sleep(0)
            assert channel.in_flight == 1
            held.released.set()
            await rig.stored(task, "done")
            edge.script = held = Held()
            task = rig.submit(targets=["http://a.com/y"])
            await until(lambda: len(edge.requests) == 2)
            channel.leave(frozenset({"127.0.0.9"}))
            held.released.set()
            await rig.stored(task, "done")
            assert [request.connection for request in edge.requests] == [1, 1, 2]


async def test_a_name_that_comes_to_stand_for_several_takes_its_node_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def several(_address: object) -> frozenset[str]:
        raise SeveralAddressesError("'e' has several addresses")

    with FakeNode() as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            node = rig.node("edge-1")
            await rig.stored(rig.submit(targets=["http://a.com/x"]), "done")
            with monkeypatch.context() as patches:
                patches.setattr(lookups, "addresses_of", several)
                await node.proving.lookups.look()
            assert (node.state, node.health.last_error) == (NodeState.DOWN, "'e' has several addresses")
            await rig.stored(rig.submit(targets=["http://a.com/y"]), "done")
