"""docs/caches/: what each page has typed is typed, in an empty folder, and does what the page says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.cache_docs import FOLDER
from tests.rigs.typed import Ports, open_folder, typed

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(FOLDER.glob("*.md")), ids=lambda path: path.stem)
def test_a_page_leads_from_nothing_to_a_purge(page: Path) -> None:
    """On other ports; the processes end with the shell's group."""
    text = page.read_text(encoding="utf-8")
    script = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0]
    with open_folder() as folder:
        code, said = typed(script, folder, Ports())
        logs = "".join(f"{log.name}: {log.read_text()}" for log in folder.glob("*.log"))
    assert code == 0, said + logs
    lines = said.splitlines()
    assert [line for line in lines if line in {"one", "two"}] == ["one", "one", "two"], said + logs
    assert any(line.startswith("accepted: ") for line in lines)
    [proof] = [line for line in text.splitlines() if "\tproven\t" in line]
    assert proof in [line.rstrip("\t") for line in lines]
