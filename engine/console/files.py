"""The files of the page: HTML, modules, a style sheet and an icon, as they lie in ``static/``.

They are read at the first request for one of them, so a start does not pay for them.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

STATIC: Final = Path(__file__).with_name("static")
PAGE: Final = "index.html"
JAVASCRIPT: Final = "text/javascript"
STYLE: Final = "text/css"
PICTURE: Final = "image/svg+xml"
_KINDS: Final = {".html": "text/html", ".js": JAVASCRIPT, ".css": STYLE, ".svg": PICTURE}


class File(NamedTuple):
    """One file."""

    content_type: str
    body: bytes
    etag: str  #: in quotes, as ``ETag`` has it


class Files:
    """All files, by name.

    Args:
        folder: where they lie; nothing else is read.
    """

    def __init__(self, folder: Path = STATIC) -> None:
        self._folder = folder

    @cached_property
    def all(self) -> dict[str, File]:
        """Name → file."""
        found = {}
        for path in sorted(self._folder.iterdir()):
            if path.suffix in _KINDS:
                body = path.read_bytes()
                digest = hashlib.sha256(body).hexdigest()[:32]
                found[path.name] = File(_KINDS[path.suffix], body, f'"{digest}"')
        return found

    @cached_property
    def digest(self) -> str:
        """Digest of all files: two engines that say the same have the same page."""
        return hashlib.sha256("".join(file.etag for file in self.all.values()).encode()).hexdigest()[:16]
