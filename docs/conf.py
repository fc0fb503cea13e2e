"""The site of docs/, made by ``./inv docs``. Its navigation is docs/index.md: sections, and their pages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "Purgeline"
root_doc = "index"
extensions = ["myst_parser"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "Purgeline"
html_show_sphinx = False
html_copy_source = False
highlight_language = "text"
suppress_warnings = ["misc.highlighting_failure"]  # blocks are shortened, with an ellipsis

#: Pages of a folder stand below the page that introduces them.
BELOW = {"monitoring": "runbook/*", "architecture": "decisions/*"}


def setup(app: Sphinx) -> None:
    """Have the navigation made when pages are read."""
    app.connect("source-read", add_navigation)


def add_navigation(_app: Sphinx, page: str, source: list[str]) -> None:
    """Add to a page, unseen, which pages stand below it."""
    if page == root_doc:
        named: set[str] = set()
        for section in source[0].split("\n## ")[1:]:
            title, _, text = section.partition("\n")
            links = re.findall(r"^- \[.*?\]\(([\w/-]+)\.md", text, re.MULTILINE)
            source[0] += _tree([link for link in links if link not in named], title)
            named.update(links)
    if page in BELOW:
        source[0] += _tree([BELOW[page]])


def _tree(pages: list[str], caption: str = "") -> str:
    lines = [":hidden:", ":glob:", *([f":caption: {caption}"] * bool(caption)), "", *pages]
    return "\n\n```{toctree}\n" + "\n".join(lines) + "\n```\n"
