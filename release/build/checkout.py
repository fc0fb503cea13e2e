"""The compiled form of a checkout: built into a folder of its own, found by this environment's Python.

See `release.build.finder` for why no compiled module lies beside its source.
"""

from __future__ import annotations

import secrets
import shutil
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final

from release.build import compiled, finder

if TYPE_CHECKING:
    from release.build.compiled import Compiled

_MODULE: Final = "purgeline_compiled"
_UNSET: Final = 'ROOT = ""'


def build(root: Path, kept: Path) -> Compiled:
    """Compile the hot modules of the checkout *root*, and have this environment's Python find them.

    Args:
        root: the checkout that this environment runs.
        kept: where what was built stays; unchanged sources are not compiled again.

    Raises:
        ArtefactError: they cannot be compiled.
    """
    stamps = _stamps(root)  # before: what changes meanwhile is not what was built
    built = compiled.build(root, kept)
    folder = root / finder.BUILT
    fresh = folder.with_name(f".compiled-{secrets.token_hex(4)}")
    shutil.copytree(built.folder, fresh)
    (fresh / finder.STAMPS).write_text(stamps, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)  # what runs from it has it open
    fresh.rename(folder)
    text = Path(finder.__file__).read_text(encoding="utf-8")
    place = Path(sysconfig.get_path("purelib"), f"{_MODULE}.py")
    place.write_text(text.replace(_UNSET, f"ROOT = {str(root)!r}", 1), encoding="utf-8")
    place.with_suffix(".pth").write_text(f"import {_MODULE}\n", encoding="utf-8")
    return built


def clean(root: Path) -> bool:
    """Remove what `build` made; tell whether there was something."""
    place = Path(sysconfig.get_path("purelib"), f"{_MODULE}.py")
    found = [path for path in (place, place.with_suffix(".pth")) if path.exists()]
    for path in found:
        path.unlink()
    folder = root / finder.BUILT
    was_there = folder.exists() or bool(found)
    shutil.rmtree(folder, ignore_errors=True)
    return was_there


def _stamps(root: Path) -> str:
    lines = []
    for name, path in compiled.sources(root).items():
        found = path.stat()
        lines.append(f"{found.st_mtime_ns} {found.st_size} {name}\n")
    return "".join(lines)
