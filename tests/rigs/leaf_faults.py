"""Faults below a region, for the alerts of the engine above it; see `tests.rigs.alert_faults`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.fakes.node import FakeNode
from tests.rigs.engine_process import fake_table
from tests.rigs.tree import engine_in, region_table
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from tests.rigs.engine_process import EngineProcess

URL = "http://img.example.com/a"


@contextlib.contextmanager
def _tree(folder: Path) -> Iterator[tuple[FakeNode, EngineProcess, EngineProcess]]:
    with (
        FakeNode() as leaf,
        engine_in(folder, fake_table(leaf.url, name="edge-1"), name="eu") as region,
        engine_in(folder, region_table(region, name="eu"), name="root") as root,
    ):
        wait_until(lambda: root.node("eu")["leaves"]["states"] == {"ready": 1}, what="the leaf being told of")
        yield leaf, region, root


def leaf_away(folder: Path) -> Generator[EngineProcess, None, None]:
    """End a leaf, and purge at the root."""
    with _tree(folder) as (leaf, _, root):
        yield root
        leaf.stop()
        root.submit([URL])
        yield root


def region_killed(folder: Path) -> Generator[EngineProcess, None, None]:
    """Kill the engine of a region."""
    with _tree(folder) as (_, region, root):
        yield root
        region.kill()
        yield root
