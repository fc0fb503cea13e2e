"""The supervisor as hosts get it: a folder, and the file that runs this folder and no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from release.agent import package
from release.errors import ArtefactError

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAIN: Final = "__main__.py"
_UNSET: Final = 'DIGEST: Final = ""'


def supervisor_file(files: Mapping[str, bytes]) -> str:
    """Return what hosts start as ``supervisor.py``: the folder's ``__main__`` with the digest of the folder.

    Args:
        files: of the supervisor's folder, name → content.

    Raises:
        ArtefactError: they are no supervisor.
    """
    text = files.get(_MAIN, b"").decode()
    if text.count(_UNSET) != 1:
        raise ArtefactError(f"the supervisor's {_MAIN} has no place for the digest of its folder")
    return text.replace(_UNSET, f'DIGEST: Final = "{package.digest_of(files)}"')
