"""What lies in a release's folder: files, bytecode, links, and what is none of these."""

from __future__ import annotations

import os
import re

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from pathlib import Path

OWN = re.compile(r"\.?\.(verified|seen)(\.new-\d+)?")  #: what says what was unpacked, and is no part of that
BYTECODE = "/__pycache__/"


class Contents:
    """The contents of a folder, by name below it.

    Attributes:
        files: name → status; no bytecode.
        bytecode: name → status; what Python keeps of modules.
        links: name → where the link points, as it is written.
        others: pipes, sockets, devices.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.files: dict[str, os.stat_result] = {}
        self.bytecode: dict[str, os.stat_result] = {}
        self.links: dict[str, str] = {}
        self.others: list[str] = []
        self._walk("")

    def _walk(self, below: str) -> None:
        with os.scandir(os.path.join(self.folder, below)) as entries:  # noqa: PTH118 - thousands of them
            for entry in sorted(entries, key=lambda entry: entry.name):
                name = f"{below}{entry.name}"
                if entry.is_symlink():
                    self.links[name] = os.readlink(entry.path)
                elif entry.is_dir(follow_symlinks=False):
                    self._walk(f"{name}/")
                elif not entry.is_file(follow_symlinks=False):
                    self.others.append(name)
                elif not OWN.fullmatch(name):
                    place = self.bytecode if BYTECODE in f"/{name}" else self.files
                    place[name] = entry.stat(follow_symlinks=False)
