"""How `purgeline top` looks in terminals of any size."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from engine.cli.looks import Look
from engine.cli.top_screen import drawn, told_apart

NAMES = [f"cache-frankfurt-rack-{number // 10:03d}-unit-{number:04d}.prod.example" for number in range(1000)]


def screen(nodes: list[dict[str, Any]], width: int, height: int, *, first: int = 0) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, highlight=False, markup=False)
    tasks = [{"task_id": f"{number:032x}", "state": "running", "total": 7} for number in range(50)]
    look = Look(at=1.0, nodes=nodes, tasks=tasks, acked_per_s=12.5)
    console.print(drawn(look, console.size, first=first, is_paused=False))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert len(lines) <= height
    assert max(map(cell_len, lines)) <= width
    return lines


@pytest.mark.parametrize(("width", "height"), [(24, 8), (36, 12), (60, 15), (100, 30), (200, 60)])
def test_a_thousand_nodes_are_told_apart_and_their_states_are_whole(width: int, height: int) -> None:
    nodes = [{"name": name, "layer": "edge", "state": "refusing", "waiting": 7} for name in NAMES]
    lines = screen(nodes, width, height, first=40)
    shown = [line for line in lines[1:] if "unit-" in line or "refusing" in line]
    assert shown
    for number, line in enumerate(shown, 40):
        assert f"{number:04d}" in line
        assert "refusing" in line


def test_names_keep_what_they_do_not_share_at_their_end() -> None:
    assert told_apart(["a.example", "b.example"], 9) == ["a.example", "b.example"]
    assert told_apart(["cache-1.example", "cache-2.example"], 8) == ["cache-1…", "cache-2…"]
    assert told_apart(["cache-1.example", "cache-2.example"], 5) == ["…e-1…", "…e-2…"]
    assert told_apart(["cache-1.example"], 5) == ["…mple"]
    assert told_apart([], 5) == []
