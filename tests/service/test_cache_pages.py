"""docs/caches/: what each page has typed is typed, in an empty folder, and does what the page says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cache_docs import FOLDER
from tests.rigs.typed import Ports, blocks, open_folder, script_of, typed

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("page", sorted(FOLDER.glob("*.md")), ids=lambda path: path.stem)
def test_a_page_leads_from_nothing_to_a_purge(page: Path) -> None:
    """On other ports; the processes end with the shell's group."""
    text = page.read_text(encoding="utf-8")
    steps = [block for block in blocks(text) if not block.run_by]
    with open_folder() as folder:
        code, said = typed(script_of(steps).replace("/etc/varnish/", ""), folder, Ports())
        logs = "".join(f"{log.name}: {log.read_text()}" for log in folder.glob("*.log"))
    assert code == 0, said + logs
    lines = said.splitlines()
    assert [line for line in lines if line in {"one", "two"}] == ["one", "one", "two"], said + logs
    assert any(line.startswith("accepted: ") for line in lines)
    [proof] = steps[-1].shown
    assert "\tproven\t" in proof
    assert proof in [line.rstrip("\t") for line in lines]
