"""Programs as hosts get them: the supervisor, a file that runs the folder beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.supervisor.__main__ import digest_of
from release.errors import ArtefactError

if TYPE_CHECKING:
    from pathlib import Path

_UNSET: Final = 'DIGEST: Final = ""'


def supervisor_file(folder: Path) -> str:
    """Return what hosts start as ``supervisor.py``: a folder's ``__main__`` with the digest of the folder.

    Raises:
        ArtefactError: the folder holds no supervisor.
    """
    text = (folder / "__main__.py").read_text(encoding="utf-8")
    if text.count(_UNSET) != 1:
        raise ArtefactError(f"{folder}/__main__.py: has no place for the digest of its folder")
    return text.replace(_UNSET, f'DIGEST: Final = "{digest_of(folder)}"')
