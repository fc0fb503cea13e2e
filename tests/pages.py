"""The pages of docs/ and README.md: their links, their headings, and where they stand in the navigation."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markdown_it.token import Token

ROOT: Final = Path(__file__).resolve().parents[1]
DOCS: Final = ROOT / "docs"
PAGES: Final = sorted([*DOCS.rglob("*.md"), ROOT / "README.md"])
_ELSEWHERE: Final = re.compile(r"[a-z][a-z0-9+.-]*:")


def links(text: str) -> list[str]:
    """Return where links and pictures of a page lead."""
    found = (token.attrGet("href") or token.attrGet("src") for token in _inline(text))
    return [str(place) for place in found if place]


def anchors(text: str) -> set[str]:
    """Return the names by which headings of a page are linked to: those of GitHub and of the site."""
    tokens = MarkdownIt().parse(text)
    heads = [inline for before, inline in pairwise(tokens) if before.type == "heading_open"]
    seen: Counter[str] = Counter()
    names: set[str] = set()
    for head in heads:
        words = "".join(child.content for child in head.children or [])
        name = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        names.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return names


def broken(page: Path) -> list[str]:
    """Return the links of a page that lead nowhere in this tree; those to other hosts are not looked at."""
    return [place for place in links(page.read_text(encoding="utf-8")) if not _is_there(page, place)]


def _is_there(page: Path, place: str) -> bool:
    if _ELSEWHERE.match(place):
        return True
    path, _, anchor = place.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not anchor or anchor in anchors(target.read_text(encoding="utf-8"))


def _inline(text: str) -> Iterator[Token]:
    for token in MarkdownIt().enable("table").parse(text):
        yield from token.children or []
