"""Pages that say how to do something: every block is typed, with a Varnish and a Redis."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from release.lab import caches
from release.lab.origin import Origin
from tests import pages
from tests.rigs.redis_servers import RedisServer
from tests.rigs.typed import Ports, blocks, open_folder, script_of, typed

if TYPE_CHECKING:
    from pathlib import Path


def type_page(name: str, folder: Path) -> list[str]:
    """Type a page; return the lines that were said, among them, in order, those that it shows."""
    steps = blocks((pages.DOCS / name).read_text(encoding="utf-8"))
    with (
        Origin() as origin,
        caches.start_varnish(folder, name="varnish-1", backend=f"127.0.0.1:{origin.port}") as varnish,
        RedisServer(folder) as redis,
        open_folder() as place,
    ):
        origin.headers = {"Surrogate-Key": "product-1 shop"}
        ports = Ports({"6081": str(varnish.port), "6379": str(redis.port)})
        code, said = typed(script_of(steps), place, ports)
        log = (place / "engine.log").read_text(encoding="utf-8")
    assert code == 0, said + log
    lines = said.splitlines()
    at = 0
    for line in (line for step in steps for line in step.shown):
        assert line in lines[at:], (line, said)
        at += lines[at:].index(line) + 1
    return lines


@pytest.mark.slow
@pytest.mark.redis
def test_what_each_other_tool_sends_becomes_a_purge(tmp_path: Path) -> None:
    lines = type_page("migration.md", tmp_path)
    assert [line.split("\t")[-2] for line in lines if "\tdone\t" in line] == ["varnish-1 acked"] * 2


@pytest.mark.slow
@pytest.mark.redis
def test_a_key_purges_the_pages_that_carry_it(tmp_path: Path) -> None:
    lines = type_page("keys.md", tmp_path)
    assert re.fullmatch(r'\{"task_id":".*","state":"accepted","total":1\}', lines[-1])
