"""Reads files of the kernel and of systemd; what is not there, or not ours to read, is None."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

_UNIT_DIRS: Final = (
    "usr/lib/systemd/system",
    "lib/systemd/system",
    "run/systemd/system",
    "etc/systemd/system",
)
_OPEN_FILES: Final = re.compile(r"^Max open files\s+(\S+)", re.MULTILINE)
_NUMBER: Final = re.compile(r"\d+")
UNLIMITED: Final = 2**63


class Process(NamedTuple):
    """A running process."""

    pid: int
    files_max: int | None  #: its soft limit of open files
    files: int | None  #: those open; None: they are not ours to see


class Reader:
    """The files below *root*, which is ``/`` but in tests."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def text(self, path: str) -> str | None:
        """Return the text of a file."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def sysctl(self, key: str) -> str | None:
        """Return a setting of the kernel, its words with a space between."""
        text = self.text(f"proc/sys/{key.replace('.', '/')}")
        return None if text is None else " ".join(text.split())

    def number(self, key: str) -> int | None:
        """Return a setting of the kernel that is a number."""
        text = self.sysctl(key) or ""
        return int(text) if _NUMBER.fullmatch(text) else None

    def counters(self) -> dict[str, int]:
        """Return the counters of TCP of this network namespace, since it began; empty: not to be read."""
        lines = (self.text("proc/net/netstat") or "").splitlines()
        for names, values in zip(lines[::2], lines[1::2], strict=False):
            if names.startswith("TcpExt:"):
                return dict(zip(names.split()[1:], map(int, values.split()[1:]), strict=False))
        return {}

    def time_wait(self) -> int | None:
        """Return how many sockets are in TIME_WAIT, of IPv4 and IPv6."""
        found = re.search(r"^TCP:.* tw (\d+)", self.text("proc/net/sockstat") or "", re.MULTILINE)
        return int(found[1]) if found else None

    def holders(self, inodes: set[int]) -> list[Process]:
        """Return the processes that have one of these sockets open, but systemd; those that we may see."""
        wanted = {f"socket:[{inode}]" for inode in inodes}
        found = []
        for folder in (self.root / "proc").glob("[0-9]*"):
            links = _links(folder / "fd") if wanted else None
            if links and wanted & set(links) and self.text(f"proc/{folder.name}/comm") != "systemd\n":
                found.append(self.process(int(folder.name)))
        return sorted(found)

    def process(self, pid: int) -> Process:
        """Return a process, with what is known of its open files."""
        limit = _OPEN_FILES.search(self.text(f"proc/{pid}/limits") or "")
        links = _links(self.root / f"proc/{pid}/fd")
        return Process(pid, _limit(limit[1]) if limit else None, None if links is None else len(links))

    def folder_of(self, pid: int) -> Path | None:
        """Return the folder that a process works in."""
        try:
            return (self.root / f"proc/{pid}/cwd").readlink()
        except OSError:
            return None

    def unit_files_max(self, unit: str) -> int | None:
        """Return the soft ``LimitNOFILE`` of a unit of systemd, 0: it sets none; None: there is no unit."""
        texts = [self.text(f"{folder}/{unit}") for folder in _UNIT_DIRS]
        whole = [text for text in texts if text is not None][-1:]  # what is in /etc stands for the others
        if not whole:
            return None
        for folder in _UNIT_DIRS:
            for path in sorted((self.root / folder / f"{unit}.d").glob("*.conf")):
                whole.append(self.text(str(path.relative_to(self.root))) or "")
        limit = 0
        for value in re.findall(r"^\s*LimitNOFILE\s*=\s*([^\s:]*)", "\n".join(whole), re.MULTILINE):
            limit = _limit(value)
        return limit


def _limit(text: str) -> int:
    return int(text) if text.isdecimal() else UNLIMITED if text in {"unlimited", "infinity"} else 0


def _links(folder: Path) -> list[str] | None:
    links = []
    try:
        for path in folder.iterdir():
            try:
                links.append(str(path.readlink()))
            except FileNotFoundError:  # closed meanwhile
                continue
    except OSError:
        return None
    return links
