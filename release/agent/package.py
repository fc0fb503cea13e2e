"""A package that is copied as a folder: named by the digest of its files, and whole or not there at all.

The digest is that of ``sha256sum *`` in the folder, so it covers every file, and a folder that holds anything
else has another one. No bytecode of it is kept or run: the agent runs with
``-B``, the supervisor reads its modules as sources.

The module stands alone, so its text is also the program that places the agent by SSH: ``python3 -I -c TEXT
FOLDER``, with a JSON object on standard input, file name to text.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from collections.abc import Mapping

TRIES = 3  #: so many others may place the same folder meanwhile
IN_THE_WAY = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}


def contents(folder: Path) -> dict[str, bytes]:
    """Return the modules of a package that has no sub-packages, by file name, in the digest's order."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.py"))}


def digest_of(files: Mapping[str, bytes]) -> str:
    """Return the digest of a package's files, hex: what ``sha256sum * | sha256sum`` says in their folder."""
    lines = [f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def is_placed(files: Mapping[str, bytes], folder: Path) -> bool:
    """Tell whether a folder holds these files and nothing else."""
    try:
        names = sorted(path.name for path in folder.iterdir())
        return names == sorted(files) and all((folder / name).read_bytes() == files[name] for name in names)
    except OSError:
        return False


def place(files: Mapping[str, bytes], folder: Path) -> None:
    """Have a folder of exactly these files; it gets its name when it is whole and written out.

    Args:
        files: name → content.
        folder: where; its name ends in the digest. Whatever else has this name gives way.

    Raises:
        OSError: it cannot be written; nothing of it is left.
    """
    if is_placed(files, folder):
        return
    mark = os.urandom(4).hex()
    draft, aside = (folder.with_name(f"{folder.name}.{what}-{mark}") for what in ("part", "old"))
    try:
        _write(files, draft)
        _rename(files, draft, folder, aside=aside)
    finally:
        remove(draft)
        remove(aside)
    _sync(folder.parent)


def remove(path: Path) -> None:
    """Remove a folder, or whatever else has its name, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _write(files: Mapping[str, bytes], draft: Path) -> None:
    draft.mkdir()
    draft.chmod(0o755)
    for name, content in files.items():
        path = draft / name
        with path.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        path.chmod(0o644)
    _sync(draft)


def _rename(files: Mapping[str, bytes], draft: Path, folder: Path, *, aside: Path) -> None:
    """Give the draft its name, unless another process has placed the same meanwhile."""
    for attempt in range(1, TRIES + 1):
        try:
            draft.rename(folder)
        except OSError as exc:
            if is_placed(files, folder):
                return
            if exc.errno not in IN_THE_WAY or attempt == TRIES:
                raise
        else:
            return
        remove(aside)
        with contextlib.suppress(FileNotFoundError):  # another process has moved it out of the way
            folder.rename(aside)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def main(argv: list[str]) -> None:
    """Place the files on standard input as the folder that the arguments name."""
    try:
        place({name: text.encode() for name, text in json.load(sys.stdin).items()}, Path(argv[0]))
    except OSError as exc:
        sys.exit(f"{exc.strerror or exc} ({exc.filename})")


if __name__ == "__main__":
    main(sys.argv[1:])
