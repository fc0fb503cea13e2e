"""``./inv docs``: the site is made without a fault, and its pages take nothing from another host."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from release.lab.environment import DOCS
from tests import pages

if TYPE_CHECKING:
    from pathlib import Path

TAKEN = re.compile(
    r"""<(?:script|img|iframe)[^>]*\ssrc="https?://|<link[^>]*\shref="https?://|@import|url\(['"]?https?:"""
)


@pytest.mark.slow
def test_the_site_is_made_of_pages_that_need_no_other_host(tmp_path: Path) -> None:
    source, site = tmp_path / "docs", tmp_path / "site"
    shutil.copytree(pages.DOCS, source)
    program = str(DOCS.ensure() / "sphinx-build")
    command = [program, "-q", "-W", "--keep-going", "-b", "html", str(source), str(site)]
    subprocess.run(command, check=True, timeout=100)
    made = {page.relative_to(site).with_suffix(".md") for page in site.rglob("*.html")}
    assert {page.relative_to(source) for page in source.rglob("*.md")} <= made
    texts = [file for file in site.rglob("*") if file.suffix in {".html", ".css"}]
    assert [file.name for file in texts if TAKEN.search(file.read_text(encoding="utf-8"))] == []
    with (source / "index.md").open("a", encoding="utf-8") as page:
        page.write("\n[gone](http.md#gone)\n")
    said = subprocess.run(command, check=False, timeout=100, capture_output=True, text=True)
    assert said.returncode != 0
    assert "http.md" in said.stderr or "gone" in said.stderr
