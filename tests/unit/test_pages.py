"""The documentation hangs together: links lead somewhere, and each page is found from the first one."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests import pages

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: str(page.relative_to(pages.ROOT)))
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    assert pages.broken(page) == []


def test_a_link_to_nowhere_is_found(tmp_path: Path) -> None:
    page = pages.DOCS / "index.md"
    text = "[a](http.md#states) [b](http.md#nowhere) [c](none.md) ![d](none.svg) `[e](code.md)` [f](https://g.test)"
    assert pages.links(text) == [
        *("http.md#states", "http.md#nowhere", "none.md", "none.svg", "https://g.test"),
    ]
    assert [place for place in pages.links(text) if not pages._is_there(page, place)] == [
        *("http.md#nowhere", "none.md", "none.svg"),
    ]
    assert pages.anchors("# A `b`, c\n## Same\n## Same\n") == {"a-b-c", "same", "same-1"}


def test_each_page_stands_once_in_the_navigation_or_below_a_page_that_introduces_it() -> None:
    text = (pages.DOCS / "index.md").read_text(encoding="utf-8")
    named = Counter(re.findall(r"^- \[.*?\]\(([\w/-]+\.md)", text, re.MULTILINE))
    assert {name for name, count in named.items() if count > 1} == set()
    below = {
        "index.md",
        *(
            f"{page.parent.name}/{page.name}"
            for folder in ("runbook", "decisions")
            for page in (pages.DOCS / folder).iterdir()
        ),
    }
    assert set(named) == {str(page.relative_to(pages.DOCS)) for page in pages.DOCS.rglob("*.md")} - below
