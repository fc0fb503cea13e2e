"""A region on the operators' page, in a real browser: its tile, and its leaves in its panel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fakes.node import FakeNode
from tests.rigs.browser import Browser
from tests.rigs.engine_process import fake_table
from tests.rigs.tree import engine_in, region_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
URL = "http://img.example.com/"
TILE = ".tile[data-node=eu]"


@pytest.fixture
def window(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "browser") as browser:
        yield browser


def test_a_tile_of_a_region_shows_what_is_wrong_below_it_and_its_panel_each_leaf(
    window: Browser, tmp_path: Path
) -> None:
    with FakeNode() as one, FakeNode() as two:
        tables = fake_table(one.url, name="edge-1") + fake_table(two.url, name="edge-2")
        with (
            engine_in(tmp_path, tables, name="eu") as region,
            engine_in(tmp_path, region_table(region, name="eu"), name="root") as root,
        ):
            window.open(f"http://127.0.0.1:{root.port}/")
            window.see(f"{TILE}.s-ready", "engine")
            window.see(".verdict", "well")
            window.click(TILE)
            window.see(".side .facts", "each answer is signed")
            window.see(".side li", "caches below it: 2 ready")
            window.see(".side li", "eu/edge-2: ready")
            two.stop()
            task = root.submit([URL + "1"])
            root.wait_for(task, "partial", timeout_s=40)
            window.see(f"{TILE}.s-sick", "1 down, 1 ready; eu/edge-2: http://")
            window.see(".verdict", "eu is sick")
            rows = [text for text in window.texts(".side li") if text.startswith("eu/")]
            assert rows[0].startswith("eu/edge-2: down, 1 wait: http://")
            assert rows[1] == "eu/edge-1: ready"
            window.picture(tmp_path / "region-sick.png")
            window.open(f"http://127.0.0.1:{root.port}/#/task/{task}")
            window.wait_for("held below: eu/edge-2: unreachable")
            region.kill()
            window.open(f"http://127.0.0.1:{root.port}/#/fleet/eu")
            root.submit([URL + "2"])
            window.see(f"{TILE}.s-down", "cannot be reached")
            window.see(".side li", "as it told last: 1 down, 1 ready")
            window.picture(tmp_path / "region-down.png")
            two.start()
            region.start()
            root.wait_for(task, "done", timeout_s=60)
            window.see(f"{TILE}.s-ready", timeout_s=40)
            window.see(".side li", "caches below it: 2 ready")
    assert window.errors() == []
