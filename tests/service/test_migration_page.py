"""docs/migration.md: every block is typed, with a Varnish that has the lines, and a Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from release.lab import caches
from release.lab.origin import Origin
from tests import pages
from tests.rigs.redis_servers import RedisServer
from tests.rigs.typed import Ports, blocks, open_folder, script_of, typed

if TYPE_CHECKING:
    from pathlib import Path

PAGE = pages.DOCS / "migration.md"


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.redis
def test_what_each_tool_sends_becomes_a_purge(tmp_path: Path) -> None:
    steps = blocks(PAGE.read_text(encoding="utf-8"))
    with (
        Origin() as origin,
        caches.start_varnish(tmp_path, name="varnish-1", backend=f"127.0.0.1:{origin.port}") as varnish,
        RedisServer(tmp_path) as redis,
        open_folder() as folder,
    ):
        ports = Ports({"6081": str(varnish.port), "6379": str(redis.port)})
        code, said = typed(script_of(steps), folder, ports)
        log = (folder / "engine.log").read_text(encoding="utf-8")
    assert code == 0, said + log
    lines = said.splitlines()
    at = 0
    for line in (line for step in steps for line in step.shown):
        assert line in lines[at:], (line, said)
        at += lines[at:].index(line) + 1
    purged = [line.split("\t") for line in lines if "\tdone\t" in line]
    assert [line[-2] for line in purged] == ["varnish-1 acked"] * 2
