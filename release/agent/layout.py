"""The folders of one installation, its releases, and the links that name two of them."""

from __future__ import annotations

import re

from .answers import Refused
from .files import read_json

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

VERSION = re.compile(r"[0-9][0-9A-Za-z.+!_-]{0,127}")


class Host:
    """The folders of one installation."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.releases = root / "releases"
        self.shared = root / "shared"
        self.config = self.shared / "engine.toml"
        self.supervisor = self.shared / "supervisor.py"
        self.log = self.shared / "supervisor.log"
        self.lock = root / "lock"

    def make(self) -> None:
        """Make the folders."""
        for folder in (self.root, self.releases, self.shared, self.root / "cache", self.shared / "run"):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)

    def release(self, version: object) -> Path:
        """Return the folder of a version.

        Raises:
            Refused: it is no version, or would lead out of the releases.
        """
        if not isinstance(version, str) or not VERSION.fullmatch(version) or ".." in version:
            raise Refused("input", f"version: {version!r} is no version")
        return self.releases / version

    def verified(self, version: str) -> dict[str, Any] | None:
        """Return what ``.verified`` says, None for a release that does not count."""
        marker = read_json(self.release(version) / ".verified")
        return marker if isinstance(marker, dict) and marker.get("version") == version else None

    def need_verified(self, version: str) -> dict[str, Any]:
        """Return what ``.verified`` says of a release that has to be here.

        Raises:
            Refused: it is not; names those that are.
        """
        marker = self.verified(version)
        if marker is None:
            known = ", ".join(self.good()) or "none"
            raise Refused("missing", f"{version} is not unpacked on this host, {known} is")
        return marker

    def unpacked(self) -> list[str]:
        """Return the versions that have a folder, whether whole or not."""
        if not self.releases.is_dir():
            return []
        return sorted(
            path.name for path in self.releases.iterdir() if VERSION.fullmatch(path.name) and path.is_dir()
        )

    def good(self) -> list[str]:
        """Return the verified versions."""
        return [name for name in self.unpacked() if self.verified(name)]

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of the artefact that each verified version was made of."""
        return {name: str((self.verified(name) or {}).get("sha256") or "") for name in self.good()}

    def linked(self, name: str) -> str:
        """Return the version that ``current`` or ``previous`` names, or nothing."""
        return self.links()[name].rpartition("/")[2]

    def links(self) -> dict[str, str]:
        """Return where ``current`` and ``previous`` point; nothing for a link that is missing."""
        targets = {}
        for name in ("current", "previous"):
            try:
                targets[name] = str((self.root / name).readlink())
            except OSError:
                targets[name] = ""
        return targets
