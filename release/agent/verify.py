"""Whether a release is still what was unpacked; and the operation ``verify``, which reads every byte of it.

``.verified`` says what was unpacked: the digests of files and of Python's bytecode, and where links point.
Nothing else may be in the folder: a module, a ``.pth`` file or a link that somebody put there would run. The
links out of the folder are the interpreter's, whose own files are the system's.

Before a release is run it is verified quickly: a file is read only if it is not the one that was read last,
which inode, length and both times say (``.seen``). Whoever changes a file changes the second of the times.

A release that the version before unpacked has a ``.verified`` without bytecode and links; of links, only
those that a virtual environment has are let pass then.
"""

from __future__ import annotations

import contextlib
import json
import re

from .answers import Refused
from .contents import Contents
from .digests import sha256_of
from .files import read_json, write_whole

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    import os
    from pathlib import Path
    from typing import Any

    from .layout import Host

SEEN = ".seen"
SHOWN_MAX = 3  #: differences that the answer names
LINKS_OF_A_VENV = re.compile(r"venv/(lib64|bin/python[0-9.]*)")


def verify(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Compare every file of a release with what was unpacked."""
    version = request["version"]
    wanted = host.need_verified(version)
    check(host, version, is_quick=False)
    return {"version": version, "files": len(wanted.get("files", {}))}


def check(host: Host, version: str, *, is_quick: bool) -> None:
    """See that a release is what was unpacked.

    Args:
        host: the installation.
        version: of the release.
        is_quick: read only files that changed since they were read last.

    Raises:
        Refused: it is not here, or it differs; kind ``missing`` or ``damaged``.
    """
    folder, marker = host.release(version), host.need_verified(version)
    wrong = differences(folder, marker, is_quick=is_quick)
    if wrong:
        more = f" and {len(wrong) - SHOWN_MAX} more" if len(wrong) > SHOWN_MAX else ""
        raise Refused(
            "damaged",
            f"{version}: {'; '.join(wrong[:SHOWN_MAX])}{more}; find out who did it, then remove {folder} and "
            "unpack it again",
        )


def recorded(folder: Path) -> dict[str, Any]:
    """Return what `differences` goes by, of a release as it is now, and remember what was read."""
    found = Contents(folder)
    digests = {name: sha256_of(folder / name) for name in (*found.files, *found.bytecode)}
    _remember(folder, {name: _sign_of(status) for name, status in (found.files | found.bytecode).items()})
    return {
        "files": {name: digests[name] for name in found.files},
        "bytecode": {name: digests[name] for name in found.bytecode},
        "links": found.links,
    }


def differences(folder: Path, marker: dict[str, Any], *, is_quick: bool) -> list[str]:
    """Return how a release differs from what was unpacked, in words; nothing when it does not."""
    found = Contents(folder)
    wanted, here = dict(marker.get("files", {})), dict(found.files)
    is_old = "links" not in marker
    if not is_old:
        wanted |= marker["bytecode"]
        here |= found.bytecode
    wrong = [f"{name} is missing" for name in wanted if name not in here]
    wrong += _changed(folder, wanted, here, is_quick=is_quick)
    wrong += [f"{name} was added" for name in here if name not in wanted and _counts(name, is_old=is_old)]
    wrong += [f"{name} was added" for name in found.others]
    return wrong + (_old_links(found) if is_old else _links(marker["links"], found.links))


def _changed(
    folder: Path, wanted: dict[str, str], here: dict[str, os.stat_result], *, is_quick: bool
) -> list[str]:
    """Return which files have other bytes, and remember those that do not."""
    before = read_json(folder / SEEN) if is_quick else None
    before = before if isinstance(before, dict) else {}
    signs = {name: _sign_of(here[name]) for name in wanted if name in here}
    wrong = [
        name
        for name, sign in signs.items()
        if before.get(name) != sign and sha256_of(folder / name) != wanted[name]
    ]
    seen = {name: sign for name, sign in signs.items() if name not in wrong}
    if seen != before:
        _remember(folder, seen)
    return [f"{name} was changed" for name in wrong]


def _sign_of(status: os.stat_result) -> list[int]:
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _remember(folder: Path, seen: dict[str, list[int]]) -> None:
    with contextlib.suppress(OSError):  # a full disk, or another user's folder: all is read again
        write_whole(folder / SEEN, json.dumps(seen).encode())


def _counts(name: str, *, is_old: bool) -> bool:
    return not is_old or name.startswith("venv/")


def _links(wanted: dict[str, str], here: dict[str, str]) -> list[str]:
    return [
        *(f"{name} is missing" for name in wanted if name not in here),
        *(
            f"{name} points to {here[name]}, not {target}"
            for name, target in wanted.items()
            if here.get(name, target) != target
        ),
        *(f"{name} was added" for name in here if name not in wanted),
    ]


def _old_links(found: Contents) -> list[str]:
    return [
        f"{name} was added"
        for name in found.links
        if name.startswith("venv/") and not LINKS_OF_A_VENV.fullmatch(name)
    ]
