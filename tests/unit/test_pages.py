"""The documentation hangs together: links lead somewhere, and each page is found from the first one."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests import pages
from tests.rigs.typed import Block, blocks, unsaid, untyped
from tests.typed_pages import PAGES, TYPED_ELSEWHERE, path_of

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


def test_every_decision_stands_in_the_list_of_them_by_its_title() -> None:
    text = (pages.DOCS / "architecture.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| (\d+) \| \[(.*)\]\(decisions/(.*)\) \|$", text, re.MULTILINE)
    files = sorted((pages.DOCS / "decisions").iterdir())
    heads = (file.read_text(encoding="utf-8").splitlines()[0] for file in files)
    assert [f"# {number}. {title}" for number, title, _ in listed] == list(heads)
    assert [name for *_, name in listed] == [file.name for file in files]


def test_every_block_of_commands_is_run_by_a_test_or_says_why_not() -> None:
    """Pages name the test of a block that is not typed with its page; what is not run here is counted."""
    by_page = {str(page.relative_to(pages.ROOT)): page.read_text(encoding="utf-8") for page in pages.PAGES}
    assert {name: untyped(text) for name, text in by_page.items() if untyped(text)} == {}
    found = {name: blocks(text) for name, text in by_page.items()}
    run_by = {block.run_by for listed in found.values() for block in listed} - {""}
    assert {test for test in run_by if not (pages.ROOT / test).is_file()} == set()
    typed = {
        name for name, listed in found.items() if any(not (block.run_by or block.not_run) for block in listed)
    }
    own = {str(path_of(name).relative_to(pages.ROOT)) for name in PAGES}
    assert typed == own | TYPED_ELSEWHERE.keys()
    assert {
        name: count
        for name, listed in found.items()
        if (count := sum(bool(block.not_run) for block in listed))
    } == {"README.md": 1, "docs/compiled.md": 1, "docs/contributing.md": 1, "docs/start.md": 1}


def test_a_page_is_read_as_it_is_meant() -> None:
    page = (
        "```sh exits 1\nfalse\n```\n\n```\nno\n```\n\n<!-- run by: tests/pages.py -->\n"
        "```console\n$ a \\\n  b\nc 1…\n$ d\n```\n\n<!-- not run: it has no host -->\n"
        "  ```sh\n  e\n  ```\n\nwords\n\n```\nshown elsewhere\n```\n"
    )
    assert blocks(page) == [
        Block("false\n", 1, ["no"]),
        Block("a \\\n  b\nd\n", None, ["c 1"], run_by="tests/pages.py"),
        Block("e\n", 0, [], not_run="it has no host"),
    ]
    assert untyped("```\n$ a\n```\n\n```\n./inv b\n```\n\n```\nwhat was said\n```\n") == ["$ a", "./inv b"]


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("worker 0.1: 2 tasks", "worker 1.3: 17 tasks"),
        ("task_id 1a22a2d6eb8fa06a", "task_id 0b9d5f7fee94e2a2"),
        ("0.1  5226  MainThread  works  0.922  -", "0.1\t9630\tMainThread\twaits\t1.2\twork: an idle thread"),
        (
            " engine-1 alive   true       3 0.012 1.4.2   cdn-1 4711 10.0.0.11:9181",
            " engine-2 alive  false       0   0 0+dev   vm   25228 127.0.0.1:9182",
        ),
        (
            "purgeline: 3 exchanges on 2 connections; edge-1 is ready",
            "purgeline: 3 exchanges on 1 connection; edge-1 is ready",
        ),
    ],
)
def test_what_is_shown_is_said_with_other_figures(shown: str, said: str) -> None:
    assert unsaid([shown], ["before", said], by_shape=True) == ""
    assert unsaid([shown], [said]) == shown


@pytest.mark.parametrize(
    ("shown", "said"), [("state done", "state failed"), ("a  1  b  c", "a\t1\tb"), ("5  6  7", "5\tx\t7")]
)
def test_what_is_shown_and_not_said_is_found(shown: str, said: str) -> None:
    assert unsaid([shown], [said], by_shape=True) == shown
